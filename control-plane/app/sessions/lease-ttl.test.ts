import { expect, test } from 'vitest';
import { fleetPace } from './lease-ttl.ts';

const limits = {
	leaseTtlFloorMs: 10_000,
	hellosPerSecondMax: 300,
	heartbeatsPerSecondMax: 1000,
	reconnectFloorMs: 20_000,
};

test('small fleets have the floors', () => {
	for (const nodes of [0, 1, 3333]) {
		expect(fleetPace(nodes, limits)).toEqual({ leaseTtlMs: 10_000, reconnectMaxMs: 20_000 });
	}
	expect(fleetPace(9999, limits).reconnectMaxMs).toBe(20_000);
});

test('beyond them heartbeats and Hellos per second stay bounded', () => {
	for (const nodes of [10_000, 50_000, 100_000]) {
		const { leaseTtlMs, reconnectMaxMs } = fleetPace(nodes, limits);
		expect((nodes * 3 * 1000) / leaseTtlMs).toBeLessThanOrEqual(limits.heartbeatsPerSecondMax);
		expect((nodes * 1000) / reconnectMaxMs).toBeLessThanOrEqual(limits.hellosPerSecondMax);
	}
	expect(fleetPace(10_000, limits).leaseTtlMs).toBe(30_000);
});
