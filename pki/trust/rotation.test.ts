import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
	advance,
	authorityStates,
	issuingKeyId,
	laggardsOf,
	type NodeTrustFact,
	type Rotation,
	type RotationStep,
	startRotation,
} from './rotation.ts';

const node = (nodeId: string, change: Partial<NodeTrustFact> = {}): NodeTrustFact => ({
	nodeId,
	quarantined: false,
	bundleSeqAcked: 1000,
	leafIssuerKeyId: 'old',
	...change,
});

/** Goes on to the phase after `steps`, with nothing in the way. */
function after(...steps: RotationStep[]): Rotation {
	let rotation = startRotation('old', 'next', 1);
	for (const step of steps) {
		const result = advance(rotation, { step, bundleSeq: rotation.bundleSeq + 1 }, []);
		if (result.kind !== 'ok') throw new Error(result.message);
		rotation = result.rotation;
	}
	return rotation;
}

const ALL: RotationStep[] = ['prepare', 'activate', 'drain', 'taint', 'revoke'];

describe('rotation', () => {
	it('goes through its phases in order and no other', () => {
		const phases = ALL.map((_step, index) => after(...ALL.slice(0, index + 1)).phase);
		expect(phases).toEqual(['prepared', 'activated', 'draining', 'tainted', 'revoked']);
		for (let index = 0; index <= ALL.length; index += 1) {
			const rotation = after(...ALL.slice(0, index));
			for (const step of ALL) {
				const result = advance(rotation, { step, bundleSeq: 100 }, []);
				expect(result.kind, `${rotation.phase} ${step}`).toBe(step === ALL[index] ? 'ok' : 'refused');
			}
		}
	});

	it('issues from the old CA until activated and trusts both from prepared to revoked', () => {
		const rows = [[], ...ALL.map((_step, index) => ALL.slice(0, index + 1))].map((steps) => {
			const rotation = after(...steps);
			return [rotation.phase, issuingKeyId(rotation), Object.fromEntries(authorityStates(rotation))];
		});
		expect(rows).toEqual([
			['standby', 'old', { old: 'active' }],
			['prepared', 'old', { old: 'active', next: 'next' }],
			['activated', 'next', { next: 'active', old: 'old' }],
			['draining', 'next', { next: 'active', old: 'old' }],
			['tainted', 'next', { next: 'active', old: 'tainted' }],
			['revoked', 'next', { next: 'active' }],
		]);
	});

	it('activates only when every node has the bundle with both CAs', () => {
		const prepared = after('prepare');
		const event = { step: 'activate' as const, bundleSeq: 3 };
		const behind = node('b', { bundleSeqAcked: prepared.bundleSeq - 1 });
		const level = node('a', { bundleSeqAcked: prepared.bundleSeq });
		expect(advance(prepared, event, [level, behind])).toMatchObject({ kind: 'blocked', laggards: ['b'] });
		expect(advance(prepared, event, [level, { ...behind, quarantined: true }]).kind).toBe('ok');
		expect(advance(prepared, event, [level]).kind).toBe('ok');
	});

	it('taints and revokes only when every leaf comes from the next CA', () => {
		for (const [steps, step] of [
			[['prepare', 'activate', 'drain'], 'taint'],
			[['prepare', 'activate', 'drain', 'taint'], 'revoke'],
		] satisfies [RotationStep[], RotationStep][]) {
			const rotation = after(...steps);
			const event = { step, bundleSeq: 100 };
			expect(advance(rotation, event, [node('a')])).toMatchObject({ kind: 'blocked', laggards: ['a'] });
			expect(advance(rotation, event, [node('a', { leafIssuerKeyId: undefined })]).kind).toBe('blocked');
			expect(advance(rotation, event, [node('a', { leafIssuerKeyId: 'next', bundleSeqAcked: 0 })]).kind).toBe(
				'blocked',
			);
			expect(advance(rotation, event, [node('a', { leafIssuerKeyId: 'next' })]).kind).toBe('ok');
		}
	});

	it('goes on past laggards only with a waiver that names them all and nobody else', () => {
		const draining = after('prepare', 'activate', 'drain');
		const facts = [node('c'), node('a'), node('b', { leafIssuerKeyId: 'next' })];
		const withWaiver = (nodeIds: string[], reason = 'both are in repair') =>
			advance(draining, { step: 'taint', bundleSeq: 100, waiver: { nodeIds, reason } }, facts);
		expect(withWaiver(['a'])).toMatchObject({ kind: 'blocked', laggards: ['a', 'c'] });
		expect(withWaiver(['a', 'b', 'c'])).toMatchObject({ kind: 'refused', message: expect.stringContaining(': b') });
		expect(withWaiver(['a', 'c'], ' ')).toMatchObject({ kind: 'refused', message: expect.stringContaining('reason') });
		const result = withWaiver(['c', 'a']);
		expect(result).toMatchObject({
			kind: 'ok',
			rotation: { phase: 'tainted', waivers: [{ step: 'taint', nodeIds: ['a', 'c'], reason: 'both are in repair' }] },
		});
	});

	it('rolls back one phase at a time until tainted', () => {
		const back = (rotation: Rotation, facts: NodeTrustFact[] = []) =>
			advance(rotation, { step: 'rollback', bundleSeq: 100 }, facts);
		expect(back(after('prepare', 'activate', 'drain'))).toMatchObject({ rotation: { phase: 'activated' } });
		expect(back(after('prepare', 'activate'))).toMatchObject({ rotation: { phase: 'prepared' } });
		expect(back(after('prepare'))).toMatchObject({ rotation: { phase: 'standby' } });
		for (const steps of [[], ALL.slice(0, 4), ALL] satisfies RotationStep[][])
			expect(back(after(...steps)).kind).toBe('refused');
	});

	it('does not take the next CA out of the bundle while a node holds a leaf of it', () => {
		const activated = after('prepare', 'activate');
		const holder = node('a', { leafIssuerKeyId: 'next' });
		const prepared = advance(activated, { step: 'rollback', bundleSeq: 50 }, [holder]);
		if (prepared.kind !== 'ok') throw new Error(prepared.message);
		const event = { step: 'rollback' as const, bundleSeq: 60 };
		expect(advance(prepared.rotation, event, [holder])).toMatchObject({ kind: 'blocked', laggards: ['a'] });
		expect(advance(prepared.rotation, event, [node('a')]).kind).toBe('ok');
	});

	it('wants a rising bundle sequence', () => {
		const result = advance(after('prepare'), { step: 'activate', bundleSeq: 2 }, []);
		expect(result).toMatchObject({ kind: 'refused', reason: 'ROTATION_STEP_INVALID' });
	});

	it('never cuts off a node that is not waived, whatever is tried in whatever order', () => {
		const steps = fc.constantFrom<RotationStep>(...ALL, 'rollback');
		const moves = fc.array(fc.record({ step: steps, acks: fc.boolean(), renews: fc.boolean() }), { maxLength: 40 });
		let revoked = 0;
		fc.assert(
			fc.property(moves, (list) => {
				let rotation = startRotation('old', 'next', 1);
				let fact = node('a', { bundleSeqAcked: 1 });
				let known: ReadonlySet<string> = new Set(['old']);
				for (const { step, acks, renews } of list) {
					const result = advance(rotation, { step, bundleSeq: rotation.bundleSeq + 1 }, [fact]);
					if (result.kind === 'ok') rotation = result.rotation;
					if (acks) {
						fact = { ...fact, bundleSeqAcked: rotation.bundleSeq };
						known = new Set(authorityStates(rotation).keys());
					}
					if (renews) fact = { ...fact, leafIssuerKeyId: issuingKeyId(rotation) };
					const states = authorityStates(rotation);
					const leafState = states.get(fact.leafIssuerKeyId ?? '');
					expect(leafState, 'its leaf is accepted').toMatch(/^(active|next|old)$/);
					expect(known.has(issuingKeyId(rotation)), 'it knows the CA that issues').toBe(true);
					if (rotation.phase === 'revoked') revoked += 1;
				}
			}),
			{ seed: 7, numRuns: 3000 },
		);
		// The property would hold in vain if no run came that far.
		expect(revoked).toBeGreaterThan(0);
	});

	it('shows laggards before anybody tries the step', () => {
		expect(laggardsOf(after('prepare', 'activate', 'drain'), 'taint', [node('b'), node('a')])).toEqual(['a', 'b']);
	});
});
