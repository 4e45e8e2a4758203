import { present } from '../../../kit/assert.ts';
import { FORWARD, type RotationStep } from '../../../pki/trust/rotation.ts';
import { type AuthorityDocument, endOf, type IssuingSet, isIdle, issuingSet } from './document.ts';

/**
 * What the control plane does next with the issuing set by itself: a pure function of the document and the time, so that
 * whoever asks (self-rotate.ts, health, `ca status`) hears the same. A rotation begins when a third of the life is left,
 * and each step waits for all nodes, as a person's does. Nobody is cut off to keep a date, with one exception:
 *
 * - Three days before the old set ends nobody is waited for any more with `activate` and `drain`: what is issued by a set
 *   that ends soon ends with it, and a fleet without certificates is worse than a node that recovers by its join state.
 * - Once the old set has ended, no certificate of it is left that `taint` and `revoke` could cut off.
 * - Has the set that issues ended, another one takes its place at once: no node, no listener has anything to lose.
 *
 * A step that a person took back stays theirs until those three days; so does a rotation that a person began earlier.
 */
export interface SelfRotation {
	readonly isOn: boolean;
	/** Remaining life of the issuing set at which a rotation begins. */
	readonly beforeMs: number;
	/** Time for replicas and sessions to take up a phase, and for people to see it, before the next. */
	readonly settleMs: number;
}

const DAY_MS = 86_400_000;
export const SELF_ROTATION_DEFAULT: SelfRotation = Object.freeze({
	isOn: true,
	beforeMs: 30 * DAY_MS,
	settleMs: 600_000,
});
/** Time for nodes that are connected to move to the new set, at half the life of a certificate of 24 h. */
export const LAST_CALL_MS = 3 * DAY_MS;
/** A root that ends together with the issuing set gives no set that lives longer: a rotation would follow the other. */
const GAIN_MIN_MS = DAY_MS;

export type RotationPlan =
	| {
			readonly kind: 'steps';
			/** Together, in one unit. */
			readonly steps: readonly [RotationStep, ...RotationStep[]];
			/** Whatever rotation is in the document, a new one to a new set takes its place. */
			readonly isAnew: boolean;
			/** Nobody is waited for. */
			readonly isEnding: boolean;
			/** From when on the first step waits for nobody. */
			readonly regardlessAtMs: number;
	  }
	| {
			readonly kind: 'wait';
			readonly step: RotationStep;
			readonly why: 'not due' | 'begun by a person' | 'taken back' | 'settling';
			readonly untilMs: number;
	  }
	/** No set under this root would live longer. */
	| { readonly kind: 'root ends'; readonly atMs: number };

export function planRotation(document: AuthorityDocument, settings: SelfRotation, nowMs: number): RotationPlan {
	const { beforeMs, settleMs } = settings;
	const endMs = endOf(issuingSet(document));
	if (endMs <= nowMs) return replacement(document, nowMs);
	const { rotation } = document;
	if (rotation === null || isIdle(document)) {
		const rootEndMs = document.root.notAfterMs;
		if (rootEndMs - endMs < GAIN_MIN_MS) return { kind: 'root ends', atMs: rootEndMs };
		if (nowMs < endMs - beforeMs) return wait('prepare', 'not due', endMs - beforeMs);
		return { kind: 'steps', steps: ['prepare'], isAnew: false, isEnding: false, regardlessAtMs: endMs - beforeMs };
	}
	const { step } = present(FORWARD[rotation.phase], 'a rotation under way has a next step');
	const old = document.sets.find(({ node }) => node.keyId === rotation.oldKeyId);
	const { node, replica } = present(old, 'the old set is in the document until it is revoked');
	const oldEndMs = Math.max(node.notAfterMs, replica.notAfterMs);
	const regardlessAtMs = step === 'taint' || step === 'revoke' ? oldEndMs : oldEndMs - LAST_CALL_MS;
	const isEnding = nowMs >= regardlessAtMs;
	const { sinceMs = 0, isHeld = false } = document.progress ?? {};
	if (!isEnding && isHeld) return wait(step, 'taken back', regardlessAtMs);
	if (!isEnding && nowMs < oldEndMs - beforeMs) return wait(step, 'begun by a person', oldEndMs - beforeMs);
	if (nowMs < sinceMs + settleMs) return wait(step, 'settling', sinceMs + settleMs);
	return { kind: 'steps', steps: [step], isAnew: false, isEnding, regardlessAtMs };
}

/** In the place of a set that nothing can be issued by: the next one where there is one that lives, else another. */
export function replacement(document: AuthorityDocument, nowMs: number): RotationPlan {
	const shared = { kind: 'steps', isEnding: true, regardlessAtMs: nowMs } as const;
	const phase = document.rotation?.phase;
	const next = document.sets.find(({ node }) => node.keyId === document.rotation?.nextKeyId);
	if (next !== undefined && endOf(next) > nowMs) {
		if (phase === 'standby') return { ...shared, steps: ['prepare', 'activate', 'drain'], isAnew: false };
		if (phase === 'prepared') return { ...shared, steps: ['activate', 'drain'], isAnew: false };
	}
	const { notAfterMs } = document.root;
	if (notAfterMs <= nowMs) return { kind: 'root ends', atMs: notAfterMs };
	return { ...shared, steps: ['prepare', 'activate', 'drain'], isAnew: true };
}

function wait(step: RotationStep, why: Extract<RotationPlan, { kind: 'wait' }>['why'], untilMs: number): RotationPlan {
	return { kind: 'wait', step, why, untilMs };
}

/** The document to begin anew from: the set that issued until now, and no rotation. */
export function withoutRotation(document: AuthorityDocument): AuthorityDocument {
	const { progress: _, ...rest } = document;
	const sets: readonly IssuingSet[] = [issuingSet(document)];
	return { ...rest, sets, rotation: null };
}
