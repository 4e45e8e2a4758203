import { describe, expect, it } from 'vitest';
import { NodeHealth, type SavedHealth } from './engine.ts';
import { healthOf, NODE_SUBJECT, POLICY, verdictOf } from './engine-fixture.ts';
import { clearingAt, factAt, GPU, sampleAt, xidAt } from './observations-fixture.ts';
import type { Custody, Subject } from './verdict.ts';

describe('silence', () => {
	it('is UNKNOWN after three periods, and not before', () => {
		const health = healthOf(sampleAt(0));
		expect(verdictOf(health, 44_999)).toMatchObject({ state: 'HEALTHY', schedulable: true, actions: ['NONE'] });
		expect(verdictOf(health, 45_000)).toMatchObject({ state: 'UNKNOWN', schedulable: false, confidence: 'inferred' });
		expect(verdictOf(health, 45_000)).toMatchObject({ sinceMs: 45_000, policyVersion: POLICY.version });
		expect(health.nextDeadlineMs(0)).toBe(45_000);
	});

	it('of one GPU is UNKNOWN for it and its node, though the node goes on', () => {
		const health = healthOf(sampleAt(0));
		for (let atMs = 15_000; atMs <= 60_000; atMs += 15_000) health.observe(sampleAt(atMs, {}, { parts: [] }));
		expect(verdictOf(health, 60_000).state).toBe('UNKNOWN');
		expect(verdictOf(health, 60_000, NODE_SUBJECT).state).toBe('UNKNOWN');
	});

	it('is judged by the slower period of links', () => {
		const link = { kind: 'nvlink', id: 'GPU-a', index: 3 } as const;
		const health = healthOf(sampleAt(0, {}, { parts: [{ subject: link, values: {} }] }));
		expect(verdictOf(health, 179_999, link).state).toBe('HEALTHY');
		expect(verdictOf(health, 180_000, link).state).toBe('UNKNOWN');
	});

	it('of a node that was never heard is UNKNOWN', () => {
		expect(verdictOf(new NodeHealth(POLICY), 0, NODE_SUBJECT).state).toBe('UNKNOWN');
	});
});

describe('a test double', () => {
	it('is called one also while all is well, by what is part of the node too, until hardware answers', () => {
		const health = healthOf(sampleAt(0, {}, { simulated: true }));
		for (const subject of [GPU, NODE_SUBJECT])
			expect(verdictOf(health, 0, subject)).toMatchObject({ state: 'HEALTHY', simulated: true });
		health.observe(sampleAt(15_000));
		expect(verdictOf(health, 15_000, NODE_SUBJECT)).toMatchObject({ state: 'HEALTHY', simulated: false });
	});
});

describe('custody', () => {
	const claim = (atMs: number) => xidAt(atMs, 79, { custody: 'tenant', bootId: '' });
	const claimed = (health: NodeHealth, atMs: number) =>
		health.verdicts(atMs).filter(({ custody, subject }) => custody === 'tenant' && subject.kind === 'gpu');

	it('of a tenant alerts and decides nothing', () => {
		const health = healthOf(sampleAt(0), claim(1));
		expect(verdictOf(health, 1)).toMatchObject({ custody: 'platform', state: 'HEALTHY', schedulable: true });
		expect(claimed(health, 1)).toMatchObject([{ state: 'UNHEALTHY', schedulable: true }]);
	});

	it('of the platform ends what was only claimed; no other does', () => {
		const health = healthOf(sampleAt(0), claim(1), { ...clearingAt(2, 'serviced'), custody: 'transit' });
		expect(claimed(health, 2)).toHaveLength(1);
		health.observe(clearingAt(3, 'serviced'));
		expect(claimed(health, 3)).toEqual([]);
	});
});

describe('what the platform took away', () => {
	const slice = { kind: 'slice', id: 'MIG-1', index: 0, gpu: 'GPU-a' } as const;
	const link = { kind: 'nvlink', id: 'GPU-a', index: 3 } as const;
	const parts = [GPU, slice, link].map((subject) => ({ subject, values: {} }));
	const removed = (atMs: number, subject: Subject, custody: Custody = 'platform') =>
		({ kind: 'removed', atMs, custody, simulated: false, bootId: '', subject }) as const;
	const kinds = (health: NodeHealth) =>
		health.verdicts(2).flatMap(({ custody, subject }) => (custody === 'platform' ? [subject.kind] : []));

	it('has no verdict any more, nor has what was part of it', () => {
		const health = healthOf(sampleAt(0, {}, { parts }), xidAt(1, 79), removed(2, slice));
		expect(kinds(health)).toEqual(['node', 'gpu', 'nvlink']);
		expect(verdictOf(health, 2, NODE_SUBJECT).state).toBe('UNHEALTHY');
		health.observe(removed(2, GPU));
		expect(kinds(health)).toEqual(['node']);
		expect(verdictOf(health, 2, NODE_SUBJECT).state).toBe('HEALTHY');
	});

	it('is still there when a tenant says so', () => {
		const health = healthOf(sampleAt(0, {}, { parts }), removed(2, GPU, 'tenant'));
		expect(kinds(health)).toEqual(['node', 'gpu', 'slice', 'nvlink']);
	});
});

describe('what was injected', () => {
	const injection = { id: 'drill', endsAtMs: 60_000 };

	it('is judged as if it were real, says simulated, and ends as a whole', () => {
		const health = healthOf(sampleAt(0), xidAt(1, 79, { injection }), xidAt(2, 45, { injection }), sampleAt(50_000));
		const verdict = { state: 'UNHEALTHY', realState: 'HEALTHY', simulated: true, sinceMs: 1 };
		expect(verdictOf(health, 50_000)).toMatchObject(verdict);
		expect(verdictOf(health, 50_000).reasons.map(({ code }) => code)).toEqual(['xid:79']);
		expect(verdictOf(health, 50_000, NODE_SUBJECT)).toMatchObject({ state: 'UNHEALTHY', simulated: true });
		expect(health.nextDeadlineMs(50_000)).toBe(60_000);
		const { revision } = health;
		expect(verdictOf(health, 60_000)).toMatchObject({ state: 'HEALTHY', simulated: false });
		expect(health.revision).toBeGreaterThan(revision);
	});

	it('neither joins nor ends what is real, and is no history of it', () => {
		const health = healthOf(sampleAt(0), xidAt(1, 46), xidAt(2, 31, { injection }), sampleAt(50_000));
		health.observe(factAt(50_001, { fact: 'RECOVERY_ACTION', before: 1, after: 0, injection }));
		health.observe(factAt(50_002, { fact: 'GPU_RETURNED', injection }));
		expect(verdictOf(health, 50_002)).toMatchObject({ state: 'UNHEALTHY', realState: 'UNHEALTHY', simulated: false });
		expect(verdictOf(health, 60_000)).toMatchObject({ state: 'UNHEALTHY', simulated: false });
		health.observe(clearingAt(60_001, 'gpu_reset', GPU));
		health.observe(xidAt(60_002, 95, { injection: { id: 'two', endsAtMs: 70_000 } }));
		health.observe(xidAt(70_001, 95));
		expect(verdictOf(health, 70_001).actions).toEqual(['DRAIN', 'RESET_GPU']);
	});

	it('that is heard after a hand-over is a claim with the same end, and changes nothing of the platform', () => {
		const tenants = { custody: 'tenant' } as const;
		const health = healthOf(sampleAt(0), sampleAt(1, {}, tenants), xidAt(2, 79, { ...tenants, injection }));
		const claims = (atMs: number) =>
			health.verdicts(atMs).filter(({ custody, state }) => custody === 'tenant' && state !== 'HEALTHY');
		expect(claims(3).map(({ subject, state }) => `${subject.kind} ${state}`)).toEqual([
			'node UNHEALTHY',
			'gpu UNHEALTHY',
		]);
		expect(claims(3).every(({ simulated, realState }) => simulated && realState === 'HEALTHY')).toBe(true);
		expect(verdictOf(health, 3)).toMatchObject({ state: 'HEALTHY', schedulable: true, simulated: false });
		health.observe(sampleAt(59_000, {}, tenants));
		expect(health.nextDeadlineMs(59_000)).toBe(60_000);
		expect(claims(60_000)).toEqual([]);
	});

	it('is nothing once its time is over, also after a restart', () => {
		const health = healthOf(sampleAt(0), xidAt(1, 79, { injection }));
		const saved = JSON.parse(JSON.stringify(health.save(2))) as SavedHealth;
		expect(verdictOf(NodeHealth.restore(POLICY, saved, 3), 3).state).toBe('UNHEALTHY');
		expect(verdictOf(NodeHealth.restore(POLICY, saved, 60_000), 60_000).state).toBe('HEALTHY');
		expect(verdictOf(healthOf(sampleAt(60_000), xidAt(60_000, 79, { injection })), 60_000).state).toBe('HEALTHY');
	});
});

describe('the revision', () => {
	it('rises with what may change a verdict, and with no sample that says what the last one said', () => {
		const health = healthOf(sampleAt(0, { recovery_action: 0 }), sampleAt(15_000, { recovery_action: 0 }));
		const quiet = health.revision;
		health.observe(sampleAt(30_000, { recovery_action: 0, 'ecc.volatile.corrected': 0 }));
		expect(health.revision).toBe(quiet);
		for (const observation of [
			sampleAt(31_000, { recovery_action: 1 }),
			sampleAt(32_000, { recovery_action: 0 }),
			xidAt(33_000, 31),
			sampleAt(34_000, { 'ecc.volatile.corrected': 1e6 }),
			sampleAt(200_000),
		]) {
			const before = health.revision;
			health.observe(observation);
			expect(health.revision).toBeGreaterThan(before);
		}
	});
});
