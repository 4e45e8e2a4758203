import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { type RequestContext, systemContext } from '../../context.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import { CLOCK_OFFSET_MAX_MS, clockOffsetMs } from '../system/clock-offset.ts';
import { encodeDocument, endOf, isIdle, issuingSet, isUsable } from './document.ts';
import { laggardNames } from './laggards.ts';
import { signerRow } from './record.ts';
import { planRotation, type RotationPlan, replacement, withoutRotation } from './rotation-plan.ts';
import type { RunningAuthority } from './running-authority.ts';
import { stepRecord, takeStep } from './step.ts';

/**
 * The rotation that nobody has to think of: rotation-plan.ts says what is next, this does it. Keys are made under fixed
 * names before the unit, and the unit holds the document's version: killed anywhere, or done by two replicas at once, it
 * is done once. Called by reconcilers/authority.ts, at a start that finds the issuing set ended, and by
 * `gpuaas ca renew`.
 */
export interface SelfRotationDeps extends Pick<AppDeps, 'clock' | 'rng' | 'log' | 'store' | 'bus' | 'limits'> {
	readonly appendAudit: AppendAudit;
	readonly authority: RunningAuthority;
}

export type SelfRotated =
	| { readonly kind: 'done'; readonly phase: string }
	/** Nothing is due, or nodes are waited for. */
	| { readonly kind: 'nothing'; readonly plan: RotationPlan }
	/** Another replica, or a person, was first. */
	| { readonly kind: 'changed' };

/** Takes the step that is due, if nobody has to be waited for. Throws what keeps it from that. */
export async function rotateBySelf(deps: SelfRotationDeps): Promise<SelfRotated> {
	const { authority, clock, limits, store } = deps;
	await authority.reload();
	const { document } = authority.document();
	const plan = planRotation(document, limits.selfRotation, clock.now());
	if (plan.kind !== 'steps') return { kind: 'nothing', plan };
	if (!plan.isEnding) {
		// Most looks of a rotation that waits end here, with a read.
		const [laggard] = await store.read((tx) => laggardNames(tx, document.rotation, LAGGARDS_LOOK_MAX));
		if (laggard !== undefined) return { kind: 'nothing', plan };
	}
	return await carryOut(deps, plan, systemContext('certificates/self-rotate', clock, deps.log, correlationOf(deps)));
}

/** One is enough; a few more, because what is quarantined meanwhile holds nothing up. */
const LAGGARDS_LOOK_MAX = 16;

/** Puts a new set in the place of one that has ended; undefined while the set that issues lives. */
export async function replaceEnded(deps: SelfRotationDeps): Promise<SelfRotated | undefined> {
	const { authority, clock } = deps;
	await authority.reload();
	if (endOf(issuingSet(authority.document().document)) > clock.now()) return undefined;
	return await replace(deps, systemContext('certificates/self-rotate', clock, deps.log, correlationOf(deps)));
}

/**
 * The same for a person on this host, and also for a set that a clock made which was ahead: whether that one or the one
 * of now is right only a person can say. Undefined while what is issued is valid.
 */
export async function replaceUnusable(deps: SelfRotationDeps, ctx: RequestContext): Promise<SelfRotated | undefined> {
	const { authority, clock } = deps;
	await authority.reload();
	if (isUsable(issuingSet(authority.document().document), clock.now())) return undefined;
	return await replace(deps, ctx);
}

async function replace(deps: SelfRotationDeps, ctx: RequestContext): Promise<SelfRotated> {
	const { document } = deps.authority.document();
	const plan = replacement(document, deps.clock.now());
	if (plan.kind !== 'steps') throw rootEnded(document.root.notAfterMs);
	return await carryOut(deps, plan, ctx);
}

async function carryOut(
	deps: SelfRotationDeps,
	plan: Extract<RotationPlan, { readonly kind: 'steps' }>,
	ctx: RequestContext,
): Promise<SelfRotated> {
	const { authority, clock, rng, store, bus, log, appendAudit } = deps;
	const offsetMs = await clockOffsetMs(deps);
	// Of two clocks that disagree neither says when a CA ends.
	if (offsetMs > CLOCK_OFFSET_MAX_MS) throw clocksDisagree(offsetMs);
	authority.assertKeys();
	const { version, document } = authority.document();
	const needsSet = plan.isAnew || (plan.steps[0] === 'prepare' && isIdle(document));
	const nextSet = needsSet ? await authority.makeNextSet() : undefined;
	const nowMs = clock.now();
	const eventId = uuidv7(nowMs, rng);
	const done = await store.unit(function* (tx) {
		let after = plan.isAnew ? withoutRotation(document) : document;
		const records = [];
		for (const step of plan.steps) {
			const taken = yield* takeStep(tx, after, {
				step,
				nowMs,
				nextSet: step === 'prepare' ? nextSet : undefined,
				isEnding: plan.isEnding,
			});
			after = taken.document;
			records.push(stepRecord(step, taken, { detail: { old_ends: plan.isEnding } }));
		}
		// Another replica, or a person, may have changed what the steps were taken from.
		if (!(yield* tx.authority.put(encodeDocument(after), version))) return undefined;
		for (const signer of nextSet?.taskSigners ?? []) {
			yield* tx.certificates.insert(signerRow(signer, nextSet?.replica.keyId ?? '', nowMs));
		}
		for (const record of records) yield* appendAudit(tx, ctx, record);
		yield* tx.outbox.append({ id: eventId, topic: 'authority.changed', key: after.trustDomain, atMs: nowMs });
		return after.rotation?.phase ?? '';
	});
	if (done === undefined) return { kind: 'changed' };
	const facts = { phase: done, steps: plan.steps };
	if (plan.isEnding)
		log.warn('the certificate authority was rotated without waiting: the old one is at its end', facts);
	else log.info('the certificate authority was rotated', facts);
	bus.publish({ topic: 'authority.changed', key: authority.trustDomain });
	await authority.reload();
	return { kind: 'done', phase: done };
}

function correlationOf({ clock, rng }: SelfRotationDeps): string {
	return uuidv7(clock.now(), rng);
}

function clocksDisagree(offsetMs: number): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CLOCK_SKEW',
		message: `this host's clock is ${offsetMs} ms off the store's, so neither says when the CA ends; repair time synchronisation on the host that is off`,
	});
}

function rootEnded(endedAtMs: number): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'AUTHORITY_EXPIRED',
		message: `the root CA ended at ${new Date(endedAtMs).toISOString()}, and nothing is issued under it any more: begin with a new data folder and enroll every node again`,
	});
}
