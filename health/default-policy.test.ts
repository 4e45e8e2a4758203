import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { NodeHealth } from './engine.ts';
import { healthOf, NODE_SUBJECT, POLICY, verdictOf } from './engine-fixture.ts';
import { factAt, sampleAt } from './observations-fixture.ts';
import { parsePolicy } from './parse-policy.ts';

const SXM = 'NVIDIA H100 80GB HBM3';

describe('fewer than there should be', () => {
	it('by the word of siblings alone are a note, unless the policy itself says how many there should be', () => {
		const raw = 'the port runs at 200 Gb/s; measured by its siblings alone';
		const port = { kind: 'nic', id: 'mlx5_0', index: 1 } as const;
		const over = { fact: 'IB_PORT_RATE', code: 'MT_0000000838', subject: port, before: 50e9, after: 25e9 };
		const stateOf = (policy: typeof POLICY, fact: Parameters<typeof factAt>[1]) => {
			const health = new NodeHealth(policy);
			for (const observation of [sampleAt(0), factAt(1, fact)]) health.observe(observation);
			const { state, schedulable } = verdictOf(health, 1, NODE_SUBJECT);
			return [state, schedulable];
		};
		expect(stateOf(POLICY, { ...over, raw })).toEqual(['HEALTHY', true]);
		expect(stateOf(POLICY, { ...over, raw: 'the port runs at 200 Gb/s' })).toEqual(['DEGRADED', false]);
		const links = { fact: 'NVLINK_COUNT', before: 12, after: 0, raw: '0 links; measured by its siblings alone' };
		expect(stateOf(POLICY, { ...links, code: 'NVIDIA H100 NVL' })).toEqual(['HEALTHY', true]);
		expect(stateOf(POLICY, { ...links, code: SXM })).toEqual(['UNHEALTHY', false]);
		const facts = DEFAULT_POLICY.facts.map((rule) =>
			rule.fact === 'IB_PORT_RATE' ? { ...rule, expected: { 'MT_*': 50e9 } } : rule,
		);
		expect(stateOf(parsePolicy({ ...DEFAULT_POLICY, facts }), { ...over, raw })).toEqual(['DEGRADED', false]);
	});
});

describe('what is well again', () => {
	it('unreadable sectors are a state: fewer are no news of more, and none are the end of it', () => {
		const sectors = (atMs: number, before: number, after: number) =>
			factAt(atMs, { fact: 'DISK', code: 'uncorrectable', part: 'a', before, after, subject: NODE_SUBJECT });
		const health = healthOf(sampleAt(0), sectors(1, 0, 8), sectors(2, 8, 3));
		expect(verdictOf(health, 2, NODE_SUBJECT)).toMatchObject({
			...{ state: 'DEGRADED', schedulable: true, sinceMs: 1 },
			reasons: [{ checkId: 'disk.uncorrectable' }],
		});
		health.observe(sectors(3, 3, 0));
		expect(verdictOf(health, 3, NODE_SUBJECT).state).toBe('HEALTHY');
	});

	it('a disk that does not answer leaves the node UNKNOWN and not for anybody, until it answers or the host boots', () => {
		const hung = (atMs: number, after: number, bootId = 'boot-1') =>
			factAt(atMs, { fact: 'DISK', code: 'hung', part: 'a', after, subject: NODE_SUBJECT, bootId });
		const health = healthOf(sampleAt(0), hung(1, 1));
		expect(verdictOf(health, 1, NODE_SUBJECT)).toMatchObject({
			...{ state: 'UNKNOWN', schedulable: false, actions: ['DRAIN', 'INSPECT_HW'] },
			reasons: [{ checkId: 'disk.hung', code: 'hung' }],
		});
		health.observe(hung(2, 0));
		expect(verdictOf(health, 2, NODE_SUBJECT).state).toBe('HEALTHY');
		health.observe(hung(3, 1));
		health.observe(sampleAt(4, {}, { bootId: 'boot-2' }));
		expect(verdictOf(health, 4, NODE_SUBJECT).state).toBe('HEALTHY');
	});

	it('a fabric manager that is not needed any more is no finding', () => {
		const manager = (atMs: number, before: number, after: number) =>
			factAt(atMs, { fact: 'FABRIC', code: 'manager', before, after, subject: NODE_SUBJECT });
		const health = healthOf(sampleAt(0), manager(1, 1, 0));
		expect(verdictOf(health, 1, NODE_SUBJECT).schedulable).toBe(false);
		health.observe(manager(2, 0, 2));
		expect(verdictOf(health, 2, NODE_SUBJECT)).toMatchObject({ state: 'HEALTHY', schedulable: true });
	});
});
