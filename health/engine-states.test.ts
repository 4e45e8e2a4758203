import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { NodeHealth } from './engine.ts';
import { healthOf, MIN, NODE_SUBJECT, verdictOf } from './engine-fixture.ts';
import { factAt, GPU, sampleAt, xidAt } from './observations-fixture.ts';
import { parsePolicy } from './parse-policy.ts';

/** What lasts until its source says that it is well, and what there should be more of. */
describe('states that last', () => {
	it('a hung probe is UNKNOWN, after 5 minutes UNHEALTHY, and ends when the probe answers', () => {
		const hung = factAt(0, { fact: 'PROBE_HUNG', subject: NODE_SUBJECT, isOngoing: true });
		const health = healthOf(hung, sampleAt(1, {}, { parts: [] }));
		expect(verdictOf(health, 1, NODE_SUBJECT).state).toBe('UNKNOWN');
		expect(verdictOf(health, 5 * MIN, NODE_SUBJECT)).toMatchObject({ state: 'UNHEALTHY', sinceMs: 5 * MIN });
		health.observe(factAt(5 * MIN, { fact: 'PROBE_RECOVERED', subject: NODE_SUBJECT }));
		health.observe(sampleAt(5 * MIN, {}, { parts: [] }));
		expect(verdictOf(health, 5 * MIN, NODE_SUBJECT).state).toBe('HEALTHY');
	});

	it('rows that wait for a reset are UNHEALTHY until none waits', () => {
		const remap = (atMs: number, after: number) => factAt(atMs, { fact: 'ROW_REMAP', code: 'pending', after });
		const health = healthOf(sampleAt(0), remap(1, 1));
		expect(verdictOf(health, 1)).toMatchObject({ state: 'UNHEALTHY', actions: ['DRAIN', 'RESET_GPU'] });
		const monthMs = 30 * 24 * 60 * MIN;
		health.observe(sampleAt(monthMs));
		expect(verdictOf(health, monthMs).state).toBe('UNHEALTHY');
		health.observe(remap(monthMs, 0));
		expect(verdictOf(health, monthMs)).toMatchObject({ state: 'HEALTHY', clearedBy: 'well' });
	});

	it('a slowdown counts from the sixth within 10 minutes', () => {
		const health = healthOf(sampleAt(0));
		const slow = (atMs: number, after: number) => factAt(atMs, { fact: 'SLOWDOWN', code: 'hw_thermal', after });
		for (let n = 1; n <= 5; n++) for (const after of [1, 0]) health.observe(slow(n * 100, after));
		expect(verdictOf(health, 1000).state).toBe('HEALTHY');
		health.observe(slow(1000, 1));
		expect(verdictOf(health, 1000).state).toBe('DEGRADED');
		health.observe(slow(1001, 0));
		expect(verdictOf(health, 1001).state).toBe('DEGRADED');
	});

	it('a slowdown that goes on is not ended by load', () => {
		const health = healthOf(sampleAt(0));
		const slow = (atMs: number, after: number) => factAt(atMs, { fact: 'SLOWDOWN', code: 'hw_thermal', after });
		for (let n = 1; n <= 6; n++) health.observe(slow(n, 1));
		let atMs = 15_000;
		for (; atMs < 20 * MIN; atMs += 15_000) health.observe(sampleAt(atMs, { 'utilisation.gpu': 1 }));
		expect(verdictOf(health, atMs).state).toBe('DEGRADED');
		health.observe(slow(atMs, 0));
		const wellMs = atMs;
		for (; atMs <= wellMs + 10 * MIN; atMs += 15_000) health.observe(sampleAt(atMs, { 'utilisation.gpu': 1 }));
		expect(verdictOf(health, atMs)).toMatchObject({ state: 'HEALTHY', clearedBy: 'clean_load' });
	});

	it('a port that is down 4 minutes makes node and port UNHEALTHY', () => {
		const port = { kind: 'nic', id: 'mlx5_0', index: 1 } as const;
		const health = healthOf(factAt(0, { fact: 'IB_PORT_STATE', code: 'state', after: 1, before: 4, subject: port }));
		health.observe(sampleAt(1, {}, { parts: [{ subject: port, values: {} }] }));
		expect(verdictOf(health, 2, port)).toMatchObject({ state: 'DEGRADED', schedulable: false });
		expect(verdictOf(health, 4 * MIN, port).state).toBe('UNHEALTHY');
		expect(verdictOf(health, 4 * MIN, NODE_SUBJECT).state).toBe('UNHEALTHY');
	});

	it('a slice is as well as its GPU', () => {
		const slice = { kind: 'slice', id: 'MIG-1', index: 0, gpu: 'GPU-a' } as const;
		const parts = [GPU, slice].map((subject) => ({ subject, values: {} }));
		const health = healthOf(sampleAt(0, {}, { parts }), xidAt(1, 95));
		expect(verdictOf(health, 1, slice).state).toBe('UNHEALTHY');
	});

	it('a disk that is well ends nothing of one whose name begins as its own', () => {
		const hung = (part: string, after: number) =>
			factAt(1, { fact: 'DISK', code: 'hung', part, after, subject: NODE_SUBJECT });
		const health = healthOf(sampleAt(0), hung('nvme10', 1), hung('nvme1', 1), hung('nvme1', 0));
		expect(verdictOf(health, 1, NODE_SUBJECT).state).toBe('UNKNOWN');
		health.observe(hung('nvme10', 0));
		expect(verdictOf(health, 1, NODE_SUBJECT).state).toBe('HEALTHY');
	});

	it('of two disks are two', () => {
		const disk = (part: string, after: number) =>
			factAt(1, { fact: 'DISK', code: 'critical_warning', part, after, subject: NODE_SUBJECT });
		const health = healthOf(sampleAt(0), disk('a', 1), disk('b', 1), disk('a', 0));
		expect(verdictOf(health, 1, NODE_SUBJECT).state).toBe('DEGRADED');
		health.observe(disk('b', 0));
		expect(verdictOf(health, 1, NODE_SUBJECT).state).toBe('HEALTHY');
	});
});

describe('fewer than there should be', () => {
	const links = (atMs: number, code: string, after: number, before = 0) =>
		factAt(atMs, { fact: 'NVLINK_COUNT', code, before, after });
	const SXM = 'NVIDIA H100 80GB HBM3';

	it('links of a model that the policy knows are by the model, whatever was there before', () => {
		const health = healthOf(sampleAt(0), links(1, SXM, 17, 17));
		expect(verdictOf(health, 1)).toMatchObject({
			state: 'UNHEALTHY',
			actions: ['DRAIN', 'RESET_GPU'],
			reasons: [{ checkId: 'nvlink.count', code: SXM }],
		});
		health.observe(links(2, SXM, 18, 17));
		expect(verdictOf(health, 2)).toMatchObject({ state: 'HEALTHY', clearedBy: 'well' });
	});

	it('of a model that it does not know are by what was, and none where nothing ever was', () => {
		expect(verdictOf(healthOf(sampleAt(0), links(1, 'NVIDIA H100 PCIe', 0)), 1).state).toBe('HEALTHY');
		expect(verdictOf(healthOf(sampleAt(0), links(1, 'NVIDIA H100 NVL', 11, 12)), 1).state).toBe('UNHEALTHY');
		// "NVIDIA H200" is not "NVIDIA H200 NVL", which is a card.
		expect(verdictOf(healthOf(sampleAt(0), links(1, 'NVIDIA H200 NVL', 0)), 1).state).toBe('HEALTHY');
	});

	it('of a policy of one’s own are by the longest pattern that fits', () => {
		const facts = DEFAULT_POLICY.facts.map((rule) =>
			rule.fact === 'NVLINK_COUNT' ? { ...rule, expected: { '*': 2, 'Card * with *': 4, 'Card 7 with *': 6 } } : rule,
		);
		const policy = parsePolicy({ ...DEFAULT_POLICY, facts });
		const stateOf = (code: string, after: number) => {
			const health = new NodeHealth(policy);
			for (const observation of [sampleAt(0), links(1, code, after, 99)]) health.observe(observation);
			return verdictOf(health, 1).state;
		};
		expect([stateOf('Other', 2), stateOf('Other', 1)]).toEqual(['HEALTHY', 'UNHEALTHY']);
		expect([stateOf('Card 8 with x', 4), stateOf('Card 8 with x', 3)]).toEqual(['HEALTHY', 'UNHEALTHY']);
		expect([stateOf('Card 7 with x', 6), stateOf('Card 7 with x', 5)]).toEqual(['HEALTHY', 'UNHEALTHY']);
		// "Card * with *" needs both of its spaces.
		expect(stateOf('Card with', 2)).toBe('HEALTHY');
	});

	it('bytes a second of a port keep the node from being given away; one that is well leaves no trace', () => {
		const port = { kind: 'nic', id: 'mlx5_0', index: 1 } as const;
		const rate = (atMs: number, after: number) =>
			factAt(atMs, {
				fact: 'IB_PORT_RATE',
				code: 'MT_0000000838',
				before: 50e9,
				after,
				subject: port,
				source: 'sysfs',
			});
		const health = healthOf(sampleAt(0), rate(1, 50e9));
		expect(health.knows(port)).toBe(false);
		health.observe(rate(2, 25e9));
		expect(verdictOf(health, 2, port)).toMatchObject({ state: 'DEGRADED', schedulable: false });
		health.observe(rate(3, 50e9));
		expect(verdictOf(health, 3, port)).toMatchObject({ state: 'HEALTHY', clearedBy: 'well' });
	});

	it('a fabric manager that stays away makes the node UNHEALTHY after 5 minutes', () => {
		const said = (atMs: number, after: number) =>
			factAt(atMs, { fact: 'FABRIC', code: 'manager', before: 1 - after, after, subject: NODE_SUBJECT });
		const health = healthOf(sampleAt(0), said(1, 0));
		expect(verdictOf(health, 1, NODE_SUBJECT)).toMatchObject({
			...{ state: 'DEGRADED', schedulable: false, actions: ['RESTART_FABRIC_MANAGER'] },
		});
		health.observe(sampleAt(5 * MIN + 1));
		expect(verdictOf(health, 5 * MIN + 1, NODE_SUBJECT).state).toBe('UNHEALTHY');
		health.observe(said(5 * MIN + 2, 1));
		expect(verdictOf(health, 5 * MIN + 2, NODE_SUBJECT).state).toBe('HEALTHY');
	});

	it('a fabric without the summary of newer drivers is judged by its faults', () => {
		const fault = (code: string, after: number) => factAt(1, { fact: 'FABRIC', code, after });
		const stateOf = (code: string, after: number) => verdictOf(healthOf(sampleAt(0), fault(code, after)), 1).state;
		expect(stateOf('route_unhealthy', 1)).toBe('UNHEALTHY');
		expect(stateOf('access_timeout', 1)).toBe('UNHEALTHY');
		expect(stateOf('degraded_bandwidth', 1)).toBe('DEGRADED');
		expect(stateOf('status', 999)).toBe('UNHEALTHY');
		expect([0, 1, 2, 3].map((health) => stateOf('health', health))).toEqual([
			...['HEALTHY', 'HEALTHY', 'UNHEALTHY', 'DEGRADED'],
		]);
		for (const code of ['route_unhealthy', 'access_timeout', 'degraded_bandwidth', 'route_recovery'])
			expect([stateOf(code, 0), stateOf(code, 2)]).toEqual(['HEALTHY', 'HEALTHY']);
	});
});

describe('a link', () => {
	const port = { kind: 'nic', id: 'mlx5_0', index: 1 } as const;

	it('of which a fact was heard is not silent for want of a sample, for as long as its samples may take', () => {
		const health = healthOf(sampleAt(0), factAt(0, { fact: 'IB_PORT_ERRORS', code: 'link_downed', subject: port }));
		for (let atMs = 15_000; atMs < 180_000; atMs += 15_000) health.observe(sampleAt(atMs));
		expect(verdictOf(health, 179_999, port).state).toBe('HEALTHY');
		expect(verdictOf(health, 180_000, port).state).toBe('UNKNOWN');
	});
});
