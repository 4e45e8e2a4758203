import { beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import { HOST_VALUES_2 } from '../../proto/telemetry-schema/host.ts';
import type { TelemetryMetric } from '../../proto/telemetry-schema/metric.ts';
import { MANAGER } from './fabric-manager.ts';
import { type HealthFactInit, HealthFacts } from './health-facts.ts';
import { HostWatch } from './host-watch.ts';
import { KeptCounters } from './kept-counters.ts';

/** What is kept outlives the watch, as the journal outlives the agent. */
let settings: Map<string, string>;
beforeEach(() => {
	settings = new Map();
});

const setting = (name: string) => ({
	get: () => settings.get(name),
	put: (value: string) => void settings.set(name, value),
});
const row = (table: readonly TelemetryMetric[], values: Record<string, number>) =>
	Float64Array.from(table, ({ key }) => values[key] ?? Number.NaN);

function start(bootId = 'b') {
	const clock = new VirtualClock();
	const sent: HealthFactInit[] = [];
	const facts = new HealthFacts({
		...{ clock, log: silentLogger, bootId, isSimulated: () => false, bad: setting('bad') },
		append: (fact) => sent.push(fact),
	});
	const watch = new HostWatch(facts, new KeptCounters({ bootId, log: silentLogger, kept: setting('counters') }));
	const told = (change: () => void) => {
		sent.length = 0;
		change();
		clock.advance(61_000);
		return sent.map(({ code, before, after, ongoing }) => [code, before, after, ongoing]);
	};
	return {
		disk: (values: Record<string, number>) =>
			told(() => {
				const disks = [{ id: 'S1', index: 0, values: row(DISK_VALUES, values) }];
				watch.observe(new Float64Array(), { ibPorts: [], disks }, clock.monotonic());
			}),
		host: (values: Record<string, number>) =>
			told(() => watch.observe(row(HOST_VALUES_2, values), undefined, clock.monotonic())),
		manager: (state: number) => told(() => watch.observeFabricManager(state, clock.monotonic())),
	};
}

describe('a disk', () => {
	it('of which fewer sectors are unreadable than before has no new ones, and none when none are', () => {
		const { disk } = start();
		expect(disk({ uncorrectable: 8 })).toEqual([['uncorrectable', 0, 8, true]]);
		expect(disk({ uncorrectable: 3 })).toEqual([['uncorrectable', 8, 3, false]]);
		expect(disk({ uncorrectable: 0 })).toEqual([['uncorrectable', 3, 0, false]]);
	});

	it('that has errors of long ago is no news at the next start of the agent, or after a boot; new ones are', () => {
		expect(start().disk({ media_errors: 5, reallocated: 72 })).toEqual([
			['media_errors', 0, 5, true],
			['reallocated', 0, 72, true],
		]);
		expect(start().disk({ media_errors: 5, reallocated: 72 })).toEqual([]);
		const { disk } = start('another boot');
		expect(disk({ media_errors: 6, reallocated: 72 })).toEqual([['media_errors', 5, 6, true]]);
		expect(disk({ media_errors: 7, reallocated: 70 })).toEqual([['media_errors', 6, 7, false]]);
		expect(start().disk({ media_errors: 7, reallocated: 71 })).toEqual([['reallocated', 70, 71, true]]);
	});
});

describe('memory errors', () => {
	it('are counted by boot: those of this one are told once, and of the next anew', () => {
		expect(start().host({ 'memory.uncorrected': 2 })).toEqual([['uncorrected', 0, 2, true]]);
		const { host } = start();
		expect(host({ 'memory.uncorrected': 2 })).toEqual([]);
		expect(host({ 'memory.uncorrected': 3 })).toEqual([['uncorrected', 2, 3, false]]);
		expect(start('another boot').host({ 'memory.uncorrected': 3 })).toEqual([['uncorrected', 0, 3, true]]);
	});

	it('are told again where what was kept is nonsense', () => {
		for (const kept of ['{', '7', '[["a"]]', '[["1//0/memory.uncorrected/",{"value":"x"}]]']) {
			settings.set('counters', kept);
			expect(start().host({ 'memory.uncorrected': 2 }), kept).toHaveLength(1);
		}
	});
});

describe('the fabric manager', () => {
	it('that was missed and is not needed any more is so in words, also by the word of the next agent', () => {
		const { manager } = start();
		expect(manager(MANAGER.notNeeded)).toEqual([]);
		expect(manager(MANAGER.down)).toEqual([['manager', 2, 0, false]]);
		expect(manager(MANAGER.notNeeded)).toEqual([['manager', 0, 2, false]]);
		manager(MANAGER.down);
		const next = start();
		expect(next.manager(Number.NaN)).toEqual([]);
		expect(next.manager(MANAGER.notNeeded)).toEqual([['manager', -1, 2, true]]);
		expect(start().manager(MANAGER.notNeeded)).toEqual([]);
	});
});
