import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import {
	HealthSource,
	HealthSubjectKind,
	HealthFactKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { GPU_SLOW_VALUES } from '../../proto/telemetry-schema/gpu-slow.ts';
import { NVLINK_VALUES } from '../../proto/telemetry-schema/links.ts';
import type { TelemetryMetric } from '../../proto/telemetry-schema/metric.ts';
import type { ProbeSample } from '../probe/protocol.ts';
import { GpuWatch } from './gpu-watch.ts';
import { reportAnswer } from './gpus.ts';
import { type HealthFactInit, HealthFacts } from './health-facts.ts';

const A = 'GPU-a';
const B = 'GPU-b';

function row(table: readonly TelemetryMetric[], values: Record<string, number>): Float64Array {
	return Float64Array.from(table, ({ key }) => values[key] ?? Number.NaN);
}

function sampleOf(
	gpus: Record<string, Record<string, number>>,
	slow?: { gpus?: Record<string, Record<string, number>>; links?: Record<string, number>[] },
): ProbeSample {
	const parts = (table: readonly TelemetryMetric[], of: Record<string, Record<string, number>>) =>
		Object.entries(of).map(([id, values], index) => ({ id, index, values: row(table, values) }));
	const withStatus = Object.fromEntries(
		Object.entries(gpus).map(([id, values]) => [id, { 'nvml.status': 0, ...values }]),
	);
	return {
		gpus: parts(GPU_VALUES, withStatus),
		slices: [],
		slow: slow && {
			gpus: parts(GPU_SLOW_VALUES, slow.gpus ?? {}),
			nvlinks: (slow.links ?? []).map((values, index) => ({ id: A, index, values: row(NVLINK_VALUES, values) })),
		},
		events: [],
		cost: { sampleMs: 1, calls: 1, callMaxMs: 1, callMax: '', rssBytes: 0, cpuSeconds: 0 },
		isListChanged: false,
	};
}

function watch() {
	const clock = new VirtualClock();
	const sent: HealthFactInit[] = [];
	const facts = new HealthFacts({
		clock,
		log: silentLogger,
		bootId: 'b',
		append: (fact) => sent.push(fact),
		isSimulated: () => false,
	});
	const gpus = new GpuWatch(facts);
	const see = (sample: ProbeSample) => {
		clock.advance(61_000);
		sent.length = 0;
		gpus.observe(sample, clock.monotonic());
		return sent.map(({ kind, code, before, after, ongoing, subject }) => ({
			kind,
			code,
			before,
			after,
			ongoing,
			id: subject?.id,
		}));
	};
	return { see, gpus, clock, sent };
}

describe('states', () => {
	it('that are bad at first sight are ongoing; that turn bad or well are a change; the rest is silent', () => {
		const { see } = watch();
		expect(see(sampleOf({ [A]: { recovery_action: 2 }, [B]: { recovery_action: 0 } }))).toEqual([
			{ kind: Kind.RECOVERY_ACTION, code: 'recovery_action:2', before: 0, after: 2, ongoing: true, id: A },
		]);
		expect(see(sampleOf({ [A]: { recovery_action: 2 }, [B]: { recovery_action: 1 } }))).toMatchObject([
			{ id: B, before: 0, after: 1, ongoing: false },
		]);
		expect(see(sampleOf({ [A]: { recovery_action: 0 }, [B]: { recovery_action: 1 } }))).toMatchObject([
			{ id: A, before: 2, after: 0 },
		]);
		expect(see(sampleOf({ [A]: {}, [B]: {} }))).toEqual([]);
	});

	it('are each bit of why clocks are held down that is a fault', () => {
		const { see } = watch();
		see(sampleOf({ [A]: { 'throttle.reasons': 0x5 } }));
		// 0x40 hardware thermal, 0x4 power cap, which is normal.
		expect(see(sampleOf({ [A]: { 'throttle.reasons': 0x44 } }))).toMatchObject([
			{ kind: Kind.SLOWDOWN, code: 'hw_thermal', after: 1 },
		]);
		expect(see(sampleOf({ [A]: { 'throttle.reasons': 0x84 } }))).toMatchObject([
			{ code: 'hw_thermal', after: 0 },
			{ code: 'power_brake', after: 1 },
		]);
	});

	it('of fabric and repair come from the slow values', () => {
		const { see } = watch();
		const slow = (values: Record<string, number>) => sampleOf({ [A]: {} }, { gpus: { [A]: values } });
		expect(see(slow({ 'fabric.state': 0, 'fabric.health': 0 }))).toEqual([]);
		expect(see(slow({ 'fabric.state': 2, 'fabric.health': 2 }))).toMatchObject([
			{ kind: Kind.FABRIC, code: 'state', before: 0, after: 2 },
			{ kind: Kind.FABRIC, code: 'health', before: 0, after: 2 },
		]);
		expect(see(slow({ 'ecc.enabled': 1, 'fabric.state': 3, 'fabric.health': 1 }))).toHaveLength(2);
		expect(see(slow({ 'ecc.enabled': 0 }))).toMatchObject([
			{ kind: Kind.MODE_CHANGED, code: 'ecc_mode', before: 1, after: 0 },
		]);
	});
});

describe('the fabric', () => {
	it('tells each fault of its mask, where the mask has it, and that it is over', () => {
		const { see } = watch();
		const slow = (values: Record<string, number>) => sampleOf({ [A]: {} }, { gpus: { [A]: values } });
		expect(see(slow({ 'fabric.route_unhealthy': 0, 'fabric.access_timeout': 2 }))).toEqual([]);
		expect(see(slow({ 'fabric.route_unhealthy': 1, 'fabric.access_timeout': 1, 'fabric.status': 45 }))).toMatchObject([
			{ kind: Kind.FABRIC, code: 'status', after: 45 },
			{ kind: Kind.FABRIC, code: 'route_unhealthy', before: 0, after: 1 },
			{ kind: Kind.FABRIC, code: 'access_timeout', before: 2, after: 1 },
		]);
		expect(see(slow({ 'fabric.route_unhealthy': 2, 'fabric.access_timeout': 1 }))).toMatchObject([
			{ code: 'route_unhealthy', after: 2 },
		]);
	});
});

describe('counters', () => {
	it('that rise are facts; that fall were reset, and count from there', () => {
		const { see } = watch();
		expect(see(sampleOf({ [A]: { 'ecc.volatile.uncorrected': 1 } }))).toMatchObject([
			{ kind: Kind.ECC_UNCORRECTED, before: 0, after: 1, ongoing: true },
		]);
		expect(see(sampleOf({ [A]: { 'ecc.volatile.uncorrected': 3 } }))).toMatchObject([{ before: 1, after: 3 }]);
		expect(see(sampleOf({ [A]: { 'ecc.volatile.uncorrected': 0 } }))).toEqual([]);
		expect(see(sampleOf({ [A]: { 'ecc.volatile.uncorrected': 1 } }))).toMatchObject([{ before: 0, after: 1 }]);
		see(sampleOf({ [A]: { 'ecc.volatile.uncorrected': 65_535 } }));
		expect(see(sampleOf({ [A]: { 'ecc.volatile.uncorrected': 2 } }))).toMatchObject([{ before: 0, after: 2 }]);
	});

	it('of corrected errors count by their rate: a storm begins and ends', () => {
		const { see } = watch();
		see(sampleOf({ [A]: { 'ecc.volatile.corrected': 1000 } }));
		expect(see(sampleOf({ [A]: { 'ecc.volatile.corrected': 1030 } }))).toEqual([]);
		const storm = see(sampleOf({ [A]: { 'ecc.volatile.corrected': 1030 + 61 * 17_700 } }));
		expect(storm).toMatchObject([{ kind: Kind.ECC_CORRECTED_RATE, before: 0, after: 17_700 }]);
		expect(see(sampleOf({ [A]: { 'ecc.volatile.corrected': 1030 + 2 * 61 * 17_700 } }))).toEqual([]);
		expect(see(sampleOf({ [A]: { 'ecc.volatile.corrected': 1031 + 2 * 61 * 17_700 } }))).toMatchObject([
			{ after: expect.closeTo(1 / 61) },
		]);
	});

	it.each([1000, 15_000])('of corrected errors make a storm of no burst, with a sample each %i ms', (periodMs) => {
		const { gpus, clock, sent } = watch();
		for (let passedMs = 0; passedMs <= 120_000; passedMs += periodMs) {
			// Twelve at once is 12 a second for who looks each second.
			gpus.observe(sampleOf({ [A]: { 'ecc.volatile.corrected': passedMs >= 60_000 ? 12 : 0 } }), clock.monotonic());
			clock.advance(periodMs);
		}
		expect(sent).toEqual([]);
	});

	it('of corrected errors are told of again at each power of ten, and once when they end', () => {
		const { see } = watch();
		let errors = 0;
		const after = (rate: number) => {
			errors += 61 * rate;
			return see(sampleOf({ [A]: { 'ecc.volatile.corrected': errors } })).map((fact) => [fact.before, fact.after]);
		};
		after(0);
		expect([2, 9, 40, 20, 3000, 400, 0, 2].map(after)).toEqual([
			[[0, 2]],
			[],
			[[9, 40]],
			[],
			[[40, 3000]],
			[],
			[[3000, 0]],
			[[0, 2]],
		]);
	});

	it('of links are told by link', () => {
		const { see, sent } = watch();
		const links = (replays: number, up: number) =>
			sampleOf(
				{ [A]: {} },
				{
					links: [
						{ up: 1, 'errors.replay': 0 },
						{ up, 'errors.replay': replays },
					],
				},
			);
		expect(see(links(0, 1))).toEqual([]);
		expect(see(links(4, 0))).toMatchObject([
			{ kind: Kind.NVLINK_STATE, after: 0 },
			{ kind: Kind.NVLINK_ERRORS, code: 'replay', before: 0, after: 4 },
		]);
		expect(sent[0]?.subject).toMatchObject({ kind: HealthSubjectKind.NVLINK, id: A, index: 1 });
	});
});

describe('links that are down at first sight', () => {
	const link = (up: number) => sampleOf({ [A]: {} }, { links: [{ up }] });

	it('are no facts of their own: a card without bridges has nothing else', () => {
		const { see } = watch();
		expect(see(link(0))).toEqual([]);
		see(link(1));
		expect(see(link(0))).toMatchObject([{ kind: Kind.NVLINK_STATE, before: 1, after: 0 }]);
	});
});

describe('a GPU', () => {
	it('that NVML calls lost is lost once, and returns once; its last values are no news', () => {
		const { see } = watch();
		see(sampleOf({ [A]: { recovery_action: 0 }, [B]: {} }));
		expect(see(sampleOf({ [A]: { 'nvml.status': 15 }, [B]: {} }))).toEqual([
			{ kind: Kind.GPU_LOST, code: 'nvml:15', before: 0, after: 15, ongoing: false, id: A },
		]);
		expect(see(sampleOf({ [A]: { 'nvml.status': 15 }, [B]: {} }))).toEqual([]);
		expect(see(sampleOf({ [A]: { recovery_action: 0 }, [B]: {} }))).toMatchObject([
			{ kind: Kind.GPU_RETURNED, before: 15, id: A },
		]);
	});

	it('that is not listed any more is missing, also one that was there before the agent started', () => {
		const { see, gpus } = watch();
		gpus.expect([A, B]);
		expect(see(sampleOf({ [A]: {} }))).toMatchObject([{ kind: Kind.GPU_LOST, code: 'missing', id: B }]);
		expect(see(sampleOf({ [B]: {} }))).toMatchObject([
			{ kind: Kind.GPU_RETURNED, id: B },
			{ kind: Kind.GPU_LOST, code: 'missing', id: A },
		]);
	});
});

describe('facts', () => {
	it('are bounded by the hour, and what was not sent is counted in the next that is', () => {
		const { clock } = watch();
		const sent: HealthFactInit[] = [];
		const facts = new HealthFacts({
			clock,
			log: silentLogger,
			bootId: 'b',
			append: (fact) => sent.push(fact),
			isSimulated: () => false,
		});
		for (let code = 0; code < 700; code += 1) facts.report({ kind: Kind.XID, source: 1, code: `xid:${code}` });
		expect([sent.length, facts.suppressed]).toEqual([600, 100]);
		clock.advance(3_600_000);
		facts.report({ kind: Kind.XID, source: 1, code: 'xid:1' });
		expect(sent.at(-1)).toMatchObject({ code: 'xid:1', suppressed: 100 });
	});

	it('that a full journal refuses are counted, and nothing else fails', () => {
		const { clock } = watch();
		let isFull = true;
		const sent: HealthFactInit[] = [];
		const append = (fact: HealthFactInit) => {
			if (isFull) throw new Error('the disk is full');
			sent.push(fact);
		};
		const facts = new HealthFacts({ clock, log: silentLogger, bootId: 'b', append, isSimulated: () => false });
		facts.report({ kind: Kind.XID, source: 1, code: 'xid:79' });
		isFull = false;
		facts.report({ kind: Kind.XID, source: 1, code: 'xid:48' });
		expect(sent).toMatchObject([{ code: 'xid:48', suppressed: 1 }]);
	});

	it('that were counted are sent when the agent stops', () => {
		const { clock } = watch();
		const sent: HealthFactInit[] = [];
		const facts = new HealthFacts({
			clock,
			log: silentLogger,
			bootId: 'b',
			append: (fact) => sent.push(fact),
			isSimulated: () => false,
		});
		for (let times = 0; times < 3; times += 1) facts.report({ kind: Kind.XID, source: 1, code: 'xid:31' });
		facts[Symbol.dispose]();
		expect(sent.map(({ count }) => count)).toEqual([1, 2]);
	});
});

describe('what an agent before this one said', () => {
	const STATE = { kind: Kind.ROW_REMAP, source: HealthSource.NVML, code: 'pending' } as const;

	it('to be bad is bad for the next one until the journal has that it is well', () => {
		let kept: string | undefined;
		const put = (value: string) => {
			kept = value;
		};
		const clock = new VirtualClock();
		const start = () =>
			new HealthFacts({
				...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false, append: () => undefined },
				bad: { get: () => kept, put },
			});
		const facts = start();
		expect(facts.report({ ...STATE, after: 1, state: { name: 'remap', isBad: true } })).toBe(true);
		// Within the minute: counted only, and lost if the agent ends now.
		expect(facts.report({ ...STATE, after: 0, state: { name: 'remap', isBad: false } })).toBe(false);
		expect(start().wasBad('remap')).toBe(true);
		clock.advance(61_000);
		expect(start().wasBad('remap')).toBe(false);
	});

	it('is never said after what came later', () => {
		const clock = new VirtualClock();
		const sent: HealthFactInit[] = [];
		const facts = new HealthFacts({
			...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false },
			append: (fact) => sent.push(fact),
		});
		for (const after of [2, 1, 2, 0]) {
			const state = { name: 'recovery', isBad: after !== 0 };
			facts.report({ kind: Kind.RECOVERY_ACTION, source: 1, code: `recovery_action:${after}`, after, state });
			clock.advance(10_000);
		}
		clock.advance(61_000);
		expect(sent.map(({ after, suppressed }) => [after, suppressed])).toEqual([
			[2, 0],
			[1, 0],
			[0, 1],
		]);
	});

	it('and what the hour had no room for is said when there is room, if it is a state', () => {
		const clock = new VirtualClock();
		const sent: HealthFactInit[] = [];
		const facts = new HealthFacts({
			...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false },
			append: (fact) => sent.push(fact),
		});
		for (let code = 0; code < 600; code += 1) facts.report({ kind: Kind.XID, source: 1, code: `xid:${code}` });
		expect(facts.report({ ...STATE, after: 1, state: { name: 'remap', isBad: true } })).toBe(false);
		expect(facts.report({ kind: Kind.XID, source: 1, code: 'xid:999' })).toBe(false);
		sent.length = 0;
		clock.advance(3_600_000);
		clock.advance(61_000);
		expect(sent.map(({ code, after }) => [code, after])).toEqual([['pending', 1]]);
	});

	it('is said to be well by the next that sees it well, once; what is still bad is said again', () => {
		let kept: string | undefined;
		const start = () => {
			const clock = new VirtualClock();
			const sent: HealthFactInit[] = [];
			const facts = new HealthFacts({
				...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false },
				append: (fact) => sent.push(fact),
				bad: {
					get: () => kept,
					put: (value) => {
						kept = value;
					},
				},
			});
			const gpus = new GpuWatch(facts);
			return {
				facts,
				see(sample: ProbeSample) {
					sent.length = 0;
					clock.advance(61_000);
					gpus.observe(sample, clock.monotonic());
					return sent.map(({ kind, code = '', after }) => [kind, code, after]);
				},
			};
		};
		const bad = sampleOf({ [A]: { 'remap.pending': 1, recovery_action: 1 }, [B]: { 'nvml.status': 15 } });
		start().see(bad);
		const still = start();
		expect(still.see(bad)).toHaveLength(3);
		reportsHung(still.facts);
		const next = start();
		const well = sampleOf({ [A]: { 'remap.pending': 0, recovery_action: 0 }, [B]: {} });
		expect(next.see(well)).toEqual([
			[Kind.GPU_RETURNED, '', 0],
			[Kind.RECOVERY_ACTION, 'recovery_action:0', 0],
			[Kind.ROW_REMAP, 'pending', 0],
		]);
		expect(next.facts.wasBad('probe')).toBe(true);
		reportAnswer(next.facts);
		expect(next.facts.wasBad('probe')).toBe(false);
		expect(start().see(well)).toEqual([]);
	});
});

function reportsHung(facts: HealthFacts): void {
	facts.report({ kind: Kind.PROBE_HUNG, source: HealthSource.AGENT, state: { name: 'probe', isBad: true } });
}
