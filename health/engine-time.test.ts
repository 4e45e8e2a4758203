import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { NodeHealth, type SavedHealth } from './engine.ts';
import { HOUR, healthOf, POLICY, verdictOf } from './engine-fixture.ts';
import { clearingAt, factAt, GPU, sampleAt, xidAt } from './observations-fixture.ts';
import { parsePolicy } from './parse-policy.ts';

/** Boots, restarts of whoever judges, and evidence: what ends a finding, and what does not. */
describe('time', () => {
	it('that goes back is a mistake of ours', () => {
		expect(() => healthOf(sampleAt(2), sampleAt(1))).toThrow('order of their time');
	});

	it('that a node claims for the future is not believed', () => {
		const health = healthOf(sampleAt(0), xidAt(1, 46, { observedAtMs: 1e15 }), clearingAt(2, 'gpu_reset', GPU));
		health.observe(xidAt(HOUR, 46));
		expect(verdictOf(health, HOUR).actions).toEqual(['DRAIN', 'REBOOT_NODE']);
	});
});

describe('the boot that a session tells', () => {
	const session = (atMs: number, bootId: string) =>
		({ kind: 'session', atMs, custody: 'platform', simulated: false, bootId }) as const;

	it('is the newest, however far the clock of the host is behind', () => {
		const health = healthOf(session(1e12, 'boot-1'), sampleAt(1e12), xidAt(1e12, 79, { bootId: 'boot-1' }));
		health.observe(session(1e12 + 1, 'boot-2'));
		expect(verdictOf(health, 1e12 + 1)).toMatchObject({ state: 'HEALTHY', clearedBy: 'boot' });
		// Its clock says 2001 until it is set; then it is right.
		health.observe(xidAt(1e12 + 2, 46, { bootId: 'boot-2', observedAtMs: 1e9 }));
		health.observe(factAt(1e12 + 3, { fact: 'ECC_UNCORRECTED', bootId: 'boot-2' }));
		const codes = verdictOf(health, 1e12 + 3).reasons.map(({ checkId }) => checkId);
		expect(codes.toSorted()).toEqual(['ecc.uncorrected', 'xid']);
	});

	it('is not ended by whoever still tells the one before, over restarts too', () => {
		const saved = healthOf(session(0, 'boot-1'), sampleAt(0), session(1, 'boot-2')).save(1);
		const health = NodeHealth.restore(POLICY, saved, 2);
		health.observe(xidAt(2, 79, { bootId: 'boot-2' }));
		health.observe(sampleAt(3, {}, { bootId: 'boot-1' }));
		expect(verdictOf(health, 3).reasons).toMatchObject([{ code: 'xid:79' }]);
		health.observe(factAt(4, { fact: 'ECC_UNCORRECTED', bootId: 'boot-2' }));
		health.observe(session(5, 'boot-2'));
		expect(verdictOf(health, 5).reasons.map(({ checkId }) => checkId)).toEqual(['xid', 'ecc.uncorrected']);
		health.observe(session(6, 'boot-3'));
		expect(verdictOf(health, 6)).toMatchObject({ state: 'HEALTHY', clearedBy: 'boot' });
	});

	it('is the current one also where facts alone had passed it for an earlier one', () => {
		const health = healthOf(
			...[
				factAt(10, { fact: 'MODE_CHANGED', bootId: 'boot-1' }),
				factAt(20, { fact: 'MODE_CHANGED', bootId: 'boot-2' }),
			],
			...[session(30, 'boot-1'), sampleAt(30), xidAt(30, 79, { bootId: 'boot-1' })],
		);
		health.observe(session(40, 'boot-2'));
		expect(verdictOf(health, 40)).toMatchObject({ state: 'HEALTHY', clearedBy: 'boot' });
	});

	it('makes facts of every other boot history, also of one that nobody heard of', () => {
		const health = healthOf(session(0, 'boot-9'), sampleAt(0), xidAt(1, 119, { bootId: 'boot-9' }));
		health.observe(xidAt(2, 79, { bootId: 'boot-1' }));
		expect(verdictOf(health, 2).reasons.map(({ code }) => code)).toEqual(['xid:119']);
	});
});

describe('evidence', () => {
	it('ends nothing that came after what shows it began', () => {
		const health = healthOf(
			sampleAt(0),
			xidAt(1000, 46),
			sampleAt(500_000),
			factAt(500_000, { fact: 'ECC_UNCORRECTED' }),
		);
		health.observe({ ...clearingAt(600_000, 'gpu_reset', GPU), shownAtMs: 2000 });
		health.observe(sampleAt(600_000));
		expect(verdictOf(health, 600_000).reasons.map(({ checkId }) => checkId)).toEqual(['ecc.uncorrected']);
		health.observe({ ...clearingAt(600_001, 'gpu_reset', GPU), shownAtMs: 600_000 });
		expect(verdictOf(health, 600_001).state).toBe('HEALTHY');
	});

	it('ends no XID that came after what shows it began', () => {
		const health = healthOf(sampleAt(0), xidAt(5000, 46), sampleAt(10_000));
		health.observe({ ...clearingAt(11_000, 'gpu_reset', GPU), shownAtMs: 2000 });
		expect(verdictOf(health, 11_000).state).toBe('UNHEALTHY');
		health.observe({ ...clearingAt(12_000, 'gpu_reset', GPU), shownAtMs: 5000 });
		expect(verdictOf(health, 12_000).state).toBe('HEALTHY');
	});
});

describe('a node that the platform gave away', () => {
	it('is not silent for it, and has the time of silence again when it is back', () => {
		const health = healthOf(sampleAt(0), { kind: 'custody', atMs: 1000, held: 'tenant' });
		expect(verdictOf(health, HOUR).state).toBe('HEALTHY');
		health.observe({ kind: 'custody', atMs: HOUR, held: 'platform' });
		expect(verdictOf(health, HOUR + 44_999).state).toBe('HEALTHY');
		expect(verdictOf(health, HOUR + 45_000).state).toBe('UNKNOWN');
	});
});

describe('what was saved', () => {
	const saved = (health: NodeHealth, atMs: number) => JSON.parse(JSON.stringify(health.save(atMs))) as SavedHealth;
	const restored = (health: NodeHealth, savedMs: number, atMs: number, policy = POLICY) =>
		NodeHealth.restore(policy, saved(health, savedMs), atMs);

	it('goes on where it was: what is open stays open, evidence ends it, history counts', () => {
		const first = healthOf(sampleAt(0), xidAt(1000, 46), clearingAt(2000, 'gpu_reset', GPU), sampleAt(3000));
		const second = restored(first, 3000, HOUR);
		expect(verdictOf(second, HOUR)).toMatchObject({ state: 'HEALTHY', clearedBy: 'gpu_reset' });
		second.observe(xidAt(HOUR + 1, 46));
		const third = restored(second, HOUR + 1, 2 * HOUR);
		expect(verdictOf(third, 2 * HOUR).actions).toEqual(['DRAIN', 'REBOOT_NODE']);
		third.observe(sampleAt(2 * HOUR + 1, {}, { bootId: 'boot-2' }));
		expect(verdictOf(third, 2 * HOUR + 1)).toMatchObject({ state: 'HEALTHY', clearedBy: 'boot' });
	});

	it('takes no silence for what nobody could hear, and keeps what was silent', () => {
		const heard = restored(healthOf(sampleAt(0)), 1000, HOUR);
		expect(verdictOf(heard, HOUR).state).toBe('HEALTHY');
		expect(verdictOf(heard, HOUR + 45_000).state).toBe('UNKNOWN');
		expect(verdictOf(restored(healthOf(sampleAt(0)), 46_000, HOUR), HOUR).state).toBe('UNKNOWN');
	});

	it('is judged by the policy of now', () => {
		const softer = parsePolicy({
			...DEFAULT_POLICY,
			version: 'softer',
			facts: DEFAULT_POLICY.facts.map((rule) =>
				rule.check === 'ecc.uncorrected'
					? { ...rule, state: 'DEGRADED', severity: 'warning', actions: ['RUN_DIAG'] }
					: rule,
			),
		});
		const health = restored(healthOf(sampleAt(0), factAt(1, { fact: 'ECC_UNCORRECTED' })), 1, 2, softer);
		expect(verdictOf(health, 2)).toMatchObject({ state: 'DEGRADED', policyVersion: 'softer' });
	});
});
