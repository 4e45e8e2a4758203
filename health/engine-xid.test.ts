import { describe, expect, it } from 'vitest';
import { HOUR, healthOf, MIN, verdictOf } from './engine-fixture.ts';
import { clearingAt, factAt, GPU, sampleAt, xidAt } from './observations-fixture.ts';

/** XIDs, what the driver itself asks for, and errors that are corrected: what of a GPU is judged by history. */
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
		const alone = healthOf(sampleAt(0), factAt(1, { fact: 'FALLEN_OFF_BUS', source: 'kmsg' }));
		expect(verdictOf(alone, 1)).toMatchObject({ state: 'UNHEALTHY', reasons: [{ code: 'xid:79' }] });
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
