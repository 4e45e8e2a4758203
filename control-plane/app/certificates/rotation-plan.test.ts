import { beforeAll, describe, expect, it } from 'vitest';
import { systemRng } from '../../../kit/ids.ts';
import { generateSigner, type SyncSigner } from '../../../pki/keys/signer.ts';
import { type RotationStep, startRotation } from '../../../pki/trust/rotation.ts';
import type { SignatureAlgorithm } from '../../../pki/verify/signature.ts';
import { type AuthorityDocument, endOf, type IssuingSet, issuingSet } from './document.ts';
import { makeDocument, makeSet, takeUp } from './issuing-set.ts';
import { LAST_CALL_MS, planRotation, SELF_ROTATION_DEFAULT, withoutRotation } from './rotation-plan.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2030, 0, 1);
const SETTINGS = SELF_ROTATION_DEFAULT;
const SETTLE_MS = SETTINGS.settleMs;

const signers = new Map<string, SyncSigner>();
const keys = {
	load: (name: string) => signers.get(name),
	loadOrCreate(name: string, algorithm: SignatureAlgorithm) {
		const signer = signers.get(name) ?? generateSigner(algorithm);
		signers.set(name, signer);
		return signer;
	},
};

let first: AuthorityDocument;
/** Made 60 days after the first. */
let second: IssuingSet;
beforeAll(async () => {
	const making = { keys, trustDomain: 'plan.example', nowMs: START_MS, rng: systemRng };
	first = await makeDocument(making);
	const rootKey = signers.get('root');
	if (rootKey === undefined) throw new Error('a root key was made');
	const root = takeUp('root', making.trustDomain, first.root, rootKey);
	second = await makeSet({ ...making, nowMs: START_MS + 60 * DAY_MS }, 2, root);
});

/** A rotation to the second set, in the phase after that many steps; the phase began long ago. */
function rotating(
	phase: 'standby' | 'prepared' | 'activated' | 'draining' | 'tainted',
	progress: AuthorityDocument['progress'] = { sinceMs: START_MS, isHeld: false },
): AuthorityDocument {
	const rotation = { ...startRotation(issuingSet(first).node.keyId, second.node.keyId, 1), phase };
	return { ...first, sets: [...first.sets, second], rotation, progress };
}

const at = (days: number) => START_MS + days * DAY_MS;
const plan = (document: AuthorityDocument, nowMs: number) => planRotation(document, SETTINGS, nowMs);
const one = (step: RotationStep, isEnding = false) => ({ kind: 'steps', steps: [step], isAnew: false, isEnding });

describe('what the control plane does by itself', () => {
	it('begins when the configured rest of the life is left, not before', () => {
		expect(plan(first, at(59.9))).toEqual({ kind: 'wait', step: 'prepare', why: 'not due', untilMs: at(60) });
		expect(plan(first, at(60))).toMatchObject(one('prepare'));
		expect(planRotation(first, { ...SETTINGS, beforeMs: 10 * DAY_MS }, at(79))).toMatchObject({ untilMs: at(80) });
		expect(planRotation(first, { ...SETTINGS, beforeMs: 10 * DAY_MS }, at(80))).toMatchObject(one('prepare'));
	});

	it('takes one step after the other, and waits for nodes with each', () => {
		expect(plan(rotating('prepared'), at(61))).toMatchObject(one('activate'));
		expect(plan(rotating('activated'), at(61))).toMatchObject(one('drain'));
		expect(plan(rotating('draining'), at(61))).toMatchObject(one('taint'));
		expect(plan(rotating('tainted'), at(61))).toMatchObject(one('revoke'));
	});

	it('lets each phase settle', () => {
		const since = { sinceMs: at(61), isHeld: false };
		for (const phase of ['prepared', 'activated', 'draining', 'tainted'] as const) {
			const settling = { kind: 'wait', why: 'settling', untilMs: at(61) + SETTLE_MS };
			expect(plan(rotating(phase, since), at(61) + SETTLE_MS - 1)).toMatchObject(settling);
			expect(plan(rotating(phase, since), at(61) + SETTLE_MS).kind).toBe('steps');
		}
	});

	it('waits for nobody with activate and drain in the last days of the old set, but with taint and revoke', () => {
		const lastCallMs = endOf(issuingSet(first)) - LAST_CALL_MS;
		for (const [phase, step] of [
			['prepared', 'activate'],
			['activated', 'drain'],
		] as const) {
			expect(plan(rotating(phase), lastCallMs - 1)).toMatchObject({ ...one(step), regardlessAtMs: lastCallMs });
			expect(plan(rotating(phase), lastCallMs)).toMatchObject(one(step, true));
		}
		const endMs = endOf(issuingSet(first));
		for (const [phase, step] of [
			['draining', 'taint'],
			['tainted', 'revoke'],
		] as const) {
			expect(plan(rotating(phase), endMs - 1)).toMatchObject({ ...one(step), regardlessAtMs: endMs });
			expect(plan(rotating(phase), endMs)).toMatchObject(one(step, true));
		}
	});

	it('leaves a rotation that a person began early, or took back, to them until it has to be', () => {
		expect(plan(rotating('prepared'), at(59))).toMatchObject({ why: 'begun by a person', untilMs: at(60) });
		const held = { sinceMs: START_MS, isHeld: true };
		for (const phase of ['standby', 'prepared', 'activated'] as const) {
			expect(plan(rotating(phase, held), at(70))).toMatchObject({ why: 'taken back', untilMs: at(90) - LAST_CALL_MS });
			expect(plan(rotating(phase, held), at(87))).toMatchObject({ kind: 'steps', isEnding: true });
		}
	});

	it('puts another set in the place of one that has ended at once, whatever was under way', () => {
		const all = { kind: 'steps', steps: ['prepare', 'activate', 'drain'], isEnding: true };
		expect(plan(first, at(90) - 1)).toMatchObject(one('prepare'));
		expect(plan(first, at(90))).toMatchObject({ ...all, isAnew: true });
		// The next one of a rotation that was under way, while it lives.
		const recent = { sinceMs: at(90), isHeld: true };
		expect(plan(rotating('standby', recent), at(90))).toMatchObject({ ...all, isAnew: false });
		expect(plan(rotating('prepared', recent), at(90))).toMatchObject({ ...all, steps: ['activate', 'drain'] });
		// Both have ended.
		for (const phase of ['standby', 'prepared', 'activated', 'draining', 'tainted'] as const) {
			expect(plan(rotating(phase), at(151)), phase).toMatchObject({ ...all, isAnew: true });
		}
		expect(withoutRotation(rotating('prepared'))).toMatchObject({ rotation: null, sets: first.sets });
		expect(withoutRotation(rotating('tainted'))).toMatchObject({ rotation: null, sets: [second] });
		expect(withoutRotation(rotating('tainted'))).not.toHaveProperty('progress');
	});

	it('does not rotate round and round under a root that ends with the issuing set', () => {
		const rootEndMs = endOf(issuingSet(first));
		const short = { ...first, root: { ...first.root, notAfterMs: rootEndMs } };
		expect(plan(short, at(89))).toEqual({ kind: 'root ends', atMs: rootEndMs });
		expect(plan(short, at(91))).toEqual({ kind: 'root ends', atMs: rootEndMs });
	});

	it('goes on with documents of releases that did not say since when', () => {
		const { progress: _, ...old } = rotating('prepared');
		expect(plan(old, at(61))).toMatchObject(one('activate'));
	});
});
