import { describe, expect, it } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HOST_SCHEMA } from '../../proto/telemetry-schema.ts';
import { sampleHost } from './host.ts';
import { parseDiskstats, parseNetDev, parsePressure, parseStat, type Values } from './proc-files.ts';
import { TelemetrySampler } from './sampler.ts';

const here = { procRoot: '/proc', sysRoot: '/sys', dataFolder: '/', clock: systemClock, runningTasks: () => 3 };

describe('host sample', () => {
	it('reads this kernel and fills every position that it can know', () => {
		const values = sampleHost(here);
		for (const key of [
			'cpu.user',
			'cpu.count',
			'load.1',
			'memory.total',
			'memory.available',
			'boot.time',
			'filesystem.size',
		]) {
			expect(values.get(key), key).toBeGreaterThanOrEqual(0);
		}
		expect(values.get('agent.tasks')).toBe(3);
		expect(values.get('memory.available')).toBeLessThanOrEqual(values.get('memory.total') ?? 0);
		const keys = new Set(HOST_SCHEMA.map(({ key }) => key));
		expect(
			[...values.keys()].filter((key) => !keys.has(key)),
			'values without a position',
		).toEqual([]);
	});

	it('leaves out what is not there instead of saying 0', () => {
		const values = sampleHost({ ...here, procRoot: '/nonexistent', sysRoot: '/nonexistent' });
		expect(values.has('cpu.user')).toBe(false);
		expect(values.has('memory.total')).toBe(false);
	});

	it('counts whole disks once and no loopback', () => {
		const values: Values = new Map();
		parseDiskstats(
			'   8  0 sda 10 0 100 0 5 0 50 0 0 0 0\n   8  1 sda1 10 0 100 0 5 0 50 0 0 0 0\n 253 0 dm-0 1 0 9 0 1 0 9 0 0 0 0',
			new Set(['sda']),
			values,
		);
		expect(values.get('disk.read')).toBe(100 * 512);
		expect(values.get('disk.written')).toBe(50 * 512);
		parseNetDev(
			'Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  eth0: 7 0 0 0 0 0 0 0 8 0 0 0 0 0 0 0\n',
			values,
		);
		expect(values.get('network.received')).toBe(7);
		expect(values.get('network.sent')).toBe(8);
	});

	it('turns ticks and microseconds into seconds', () => {
		const values: Values = new Map();
		parseStat('cpu  100 0 250 5 0 0 0 0 0 0\ncpu0 1 1 1 1\nbtime 17\nprocs_running 2\n', values);
		expect(values.get('cpu.user')).toBe(1);
		expect(values.get('cpu.system')).toBe(2.5);
		expect(values.get('cpu.count')).toBe(1);
		parsePressure(
			'io',
			'some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0 avg60=0 avg300=0 total=2',
			values,
		);
		expect(values.get('pressure.io.some')).toBe(1.5);
	});
});

describe('sampler', () => {
	const build = (send: (frame: TelemetryFrame) => boolean) => {
		const clock = new VirtualClock();
		const sampler = new TelemetrySampler(
			{ clock, nodeId: '0190d7a0-0000-7000-8000-000000800000', sample: () => new Map([['load.1', 4]]), send },
			{ periodMs: 15_000, fastPeriodMs: 0, fastUntilMs: 0 },
		);
		return { clock, sampler };
	};

	it('sends in the order of the schema, NaN for what is absent, first at the share of its node', () => {
		const frames: TelemetryFrame[] = [];
		const { clock } = build((frame) => frames.push(frame) > 0);
		clock.advance(7499);
		expect(frames).toHaveLength(0);
		clock.advance(1);
		expect(frames).toHaveLength(1);
		const at = HOST_SCHEMA.findIndex(({ key }) => key === 'load.1');
		expect(frames[0]?.values[at]).toBe(4);
		expect(frames[0]?.values[0]).toBeNaN();
		clock.advance(15_000);
		expect(frames).toHaveLength(2);
	});

	it('counts what the link did not take, and waits for nothing', () => {
		const { clock, sampler } = build(() => false);
		clock.advance(7500 + 15_000);
		expect(sampler.dropped).toBe(2n);
	});

	it('goes faster at once and slower again when the wish has expired', () => {
		let count = 0;
		const { clock, sampler } = build(() => {
			count += 1;
			return true;
		});
		sampler.setPlan({ periodMs: 15_000, fastPeriodMs: 1000, fastUntilMs: clock.now() + 3000 });
		clock.advance(3000);
		expect(count).toBe(3);
		clock.advance(14_000);
		expect(count).toBe(3);
		sampler[Symbol.dispose]();
		clock.advance(60_000);
		expect(count).toBe(3);
	});
});
