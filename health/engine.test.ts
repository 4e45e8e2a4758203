import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { NodeHealth, type SavedHealth } from './engine.ts';
import type { Observation } from './observation.ts';
import { clearingAt, factAt, GPU, sampleAt, xidAt } from './observations-fixture.ts';
import { parsePolicy } from './parse-policy.ts';
import { type Custody, type Subject, subjectKey, type Verdict } from './verdict.ts';

const POLICY = parsePolicy(DEFAULT_POLICY);
const MIN = 60_000;
const HOUR = 60 * MIN;

function healthOf(...observations: readonly Observation[]): NodeHealth {
	const health = new NodeHealth(POLICY);
	for (const observation of observations) health.observe(observation);
	return health;
}

function verdictOf(health: NodeHealth, atMs: number, subject: Pick<Subject, 'kind' | 'id' | 'index'> = GPU): Verdict {
	const found = health.verdicts(atMs).find((verdict) => subjectKey(verdict.subject) === subjectKey(subject));
	if (found === undefined) throw new Error(`no verdict for ${subjectKey(subject)}`);
	return found;
}

const NODE_SUBJECT = { kind: 'node', id: '', index: 0 } as const;

describe('silence', () => {
	it('is UNKNOWN after three periods, and not before', () => {
		const health = healthOf(sampleAt(0));
		expect(verdictOf(health, 44_999)).toMatchObject({ state: 'HEALTHY', schedulable: true, actions: ['NONE'] });
		expect(verdictOf(health, 45_000)).toMatchObject({ state: 'UNKNOWN', schedulable: false, confidence: 'inferred' });
		expect(verdictOf(health, 45_000).sinceMs).toBe(45_000);
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

describe('XIDs', () => {
	it('of one burst are one incident, for which the severest speaks', () => {
		const health = healthOf(sampleAt(0), xidAt(1000, 45), xidAt(2000, 94), xidAt(3000, 79), sampleAt(4000));
		const verdict = verdictOf(health, 4000);
		expect(verdict).toMatchObject({ state: 'UNHEALTHY', actions: ['DRAIN', 'REBOOT_NODE'], sinceMs: 1000 });
		expect(verdict.reasons.map(({ code }) => code)).toEqual(['xid:79']);
	});

	it('45 alone restarts the fabric manager, with another it follows', () => {
		expect(verdictOf(healthOf(sampleAt(0), xidAt(1, 45)), 1).actions).toEqual(['RESTART_FABRIC_MANAGER']);
		expect(verdictOf(healthOf(sampleAt(0), xidAt(1, 45), xidAt(2, 31)), 2).actions).toEqual(['RESTART_APP']);
	});

	it('that are a program’s leave the GPU healthy, until they come from two tenants', () => {
		const one = healthOf(sampleAt(0), xidAt(1, 31, { tenant: 'a' }), xidAt(2, 31, { tenant: 'a' }));
		expect(verdictOf(one, 2)).toMatchObject({ state: 'HEALTHY', schedulable: true, actions: ['RESTART_APP'] });
		one.observe(xidAt(HOUR, 13, { tenant: 'b' }));
		one.observe(sampleAt(HOUR));
		expect(verdictOf(one, HOUR)).toMatchObject({ state: 'DEGRADED', schedulable: false, confidence: 'inferred' });
		one.observe(clearingAt(HOUR + 1, 'diagnostic_passed', GPU));
		expect(verdictOf(one, HOUR + 1)).toMatchObject({ state: 'HEALTHY', clearedBy: 'diagnostic_passed' });
	});

	it('of the reset class again within 24 h ask for a reboot; later, or in the same burst, for a reset', () => {
		const again = (gapMs: number, code = 46) => {
			const health = healthOf(sampleAt(0), xidAt(1000, 46), clearingAt(2000, 'gpu_reset', GPU), xidAt(gapMs, code));
			return verdictOf(health, gapMs).actions;
		};
		expect(again(23 * HOUR)).toEqual(['DRAIN', 'REBOOT_NODE']);
		expect(again(25 * HOUR)).toEqual(['DRAIN', 'RESET_GPU']);
		expect(again(23 * HOUR, 95)).toEqual(['DRAIN', 'RESET_GPU']);
		const burst = healthOf(sampleAt(0), ...[1, 2, 3, 4].map((at) => xidAt(at * 100_000, 46)), sampleAt(400_000));
		expect(verdictOf(burst, 400_000).actions).toEqual(['DRAIN', 'RESET_GPU']);
	});

	it('that asked for two reboots ask for hardware at the third, which a boot does not end', () => {
		const health = healthOf(sampleAt(0));
		for (const day of [0, 1, 2]) health.observe(xidAt(1000 + day * 20 * HOUR, 79, { bootId: `boot-${day}` }));
		const atMs = 1000 + 40 * HOUR;
		expect(verdictOf(health, atMs)).toMatchObject({ actions: expect.arrayContaining(['INSPECT_HW']) });
		health.observe(sampleAt(atMs + 1, {}, { bootId: 'boot-9' }));
		expect(verdictOf(health, atMs + 1)).toMatchObject({ state: 'UNHEALTHY', actions: ['DRAIN', 'INSPECT_HW'] });
		health.observe(clearingAt(atMs + 2, 'serviced'));
		expect(verdictOf(health, atMs + 2)).toMatchObject({ state: 'HEALTHY', clearedBy: 'serviced' });
	});

	it('of an earlier boot come late as history only', () => {
		const health = healthOf(sampleAt(0, {}, { bootId: 'old' }), sampleAt(10_000, {}, { bootId: 'new' }));
		health.observe(xidAt(11_000, 79, { bootId: 'old', observedAtMs: 5000 }));
		expect(verdictOf(health, 11_000).state).toBe('HEALTHY');
		health.observe(xidAt(12_000, 79, { bootId: 'new' }));
		expect(verdictOf(health, 12_000).state).toBe('UNHEALTHY');
	});

	it('of a boot that was before the current one do not pass for a new boot', () => {
		const health = healthOf(sampleAt(10_000), xidAt(10_000, 79, { bootId: 'current' }));
		health.observe(factAt(11_000, { fact: 'MODE_CHANGED', bootId: 'earlier', observedAtMs: 5000 }));
		expect(verdictOf(health, 11_000).state).toBe('UNHEALTHY');
	});

	it('79 and the kernel’s own line about it are one', () => {
		const health = healthOf(sampleAt(0), factAt(1, { fact: 'FALLEN_OFF_BUS', source: 'kmsg' }), xidAt(2, 79));
		expect(verdictOf(health, 2).reasons).toHaveLength(1);
	});

	it('of links that are not fatal are notes', () => {
		const raw = 'NVRM: Xid (PCI:0000:1b:00): 149, NETIR_LINK_EVT Nonfatal XC0 i0 Link 02';
		expect(verdictOf(healthOf(sampleAt(0), xidAt(1, 149, { raw })), 1).state).toBe('HEALTHY');
		expect(verdictOf(healthOf(sampleAt(0), xidAt(1, 149)), 1).state).toBe('UNHEALTHY');
	});

	it('that no policy knows are DEGRADED: a newer driver has newer codes', () => {
		expect(verdictOf(healthOf(sampleAt(0), xidAt(1, 999)), 1).state).toBe('DEGRADED');
	});
});

describe('the driver’s own recovery action', () => {
	it('wins over the table, and ends with it when it goes back to 0', () => {
		const health = healthOf(sampleAt(0, { recovery_action: 0 }), xidAt(1, 79), sampleAt(2, { recovery_action: 1 }));
		expect(verdictOf(health, 2).actions).toEqual(['DRAIN', 'RESET_GPU']);
		health.observe(sampleAt(3, { recovery_action: 0 }));
		expect(verdictOf(health, 3)).toMatchObject({ state: 'HEALTHY', clearedBy: 'recovery_action' });
	});

	it('wins also where it comes long after the XID', () => {
		const health = healthOf(sampleAt(0), xidAt(1, 79), sampleAt(HOUR, { recovery_action: 1 }));
		expect(verdictOf(health, HOUR).actions).toEqual(['DRAIN', 'RESET_GPU']);
	});

	it('counts for the history of a program’s XIDs, whichever came first', () => {
		const health = healthOf(sampleAt(0));
		for (const n of [1, 2, 3]) {
			health.observe(sampleAt(n * HOUR, { recovery_action: 2 }, { bootId: `boot-${n}` }));
			health.observe(xidAt(n * HOUR, 31, { bootId: `boot-${n}` }));
		}
		expect(verdictOf(health, 3 * HOUR).actions).toEqual(['DRAIN', 'REBOOT_NODE', 'INSPECT_HW']);
	});

	it('that was 0 all along ends nothing', () => {
		const health = healthOf(sampleAt(0, { recovery_action: 0 }), xidAt(1, 119), sampleAt(2, { recovery_action: 0 }));
		expect(verdictOf(health, 2).state).toBe('UNHEALTHY');
	});
});

describe('a storm of corrected errors', () => {
	const sample = (n: number, corrected: number, load: number) =>
		sampleAt(n * 15_000, { 'ecc.volatile.corrected': corrected, 'utilisation.gpu': load });

	it('is DEGRADED and not schedulable, and ends only under load without it', () => {
		const health = healthOf(sample(0, 0, 0.9), sample(1, 265_000, 0.9));
		expect(verdictOf(health, 15_000)).toMatchObject({ state: 'DEGRADED', schedulable: false });
		let n = 2;
		for (; n < 100; n++) health.observe(sample(n, 265_000, 0));
		expect(verdictOf(health, (n - 1) * 15_000).state).toBe('DEGRADED');
		const loadedMs = n * 15_000;
		for (; n * 15_000 < loadedMs + 10 * MIN; n++) health.observe(sample(n, 265_000, 0.9));
		expect(verdictOf(health, (n - 1) * 15_000).state).toBe('DEGRADED');
		health.observe(sample(n, 265_000, 0.9));
		expect(verdictOf(health, n * 15_000)).toMatchObject({ state: 'HEALTHY', clearedBy: 'clean_load' });
	});

	it('is seen after a counter began anew', () => {
		const health = healthOf(sample(0, 1_000_000, 0.9), sample(1, 3, 0.9), sample(2, 900, 0.9));
		expect(verdictOf(health, 30_000).state).toBe('DEGRADED');
	});

	it('is seen also while its counter comes to its end and begins anew', () => {
		const health = healthOf(sample(0, 65_000, 0.9), sample(1, 65_535, 0.9), sample(2, 601, 0.9));
		expect(verdictOf(health, 30_000).state).toBe('DEGRADED');
	});

	it('is none where errors are few, or the counter began anew', () => {
		const health = healthOf(sample(0, 1_000_000, 0.9), sample(1, 1_000_050, 0.9), sample(2, 3, 0.9));
		expect(verdictOf(health, 30_000).state).toBe('HEALTHY');
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
		health.observe(remap(2, 0));
		expect(verdictOf(health, 2)).toMatchObject({ state: 'HEALTHY', clearedBy: 'well' });
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
		for (const code of ['route_unhealthy', 'access_timeout', 'degraded_bandwidth', 'route_recovery'])
			expect([stateOf(code, 0), stateOf(code, 2)]).toEqual(['HEALTHY', 'HEALTHY']);
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

describe('a link', () => {
	const port = { kind: 'nic', id: 'mlx5_0', index: 1 } as const;

	it('of which a fact was heard is not silent for want of a sample, for as long as its samples may take', () => {
		const health = healthOf(sampleAt(0), factAt(0, { fact: 'IB_PORT_ERRORS', code: 'link_downed', subject: port }));
		for (let atMs = 15_000; atMs < 180_000; atMs += 15_000) health.observe(sampleAt(atMs));
		expect(verdictOf(health, 179_999, port).state).toBe('HEALTHY');
		expect(verdictOf(health, 180_000, port).state).toBe('UNKNOWN');
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
