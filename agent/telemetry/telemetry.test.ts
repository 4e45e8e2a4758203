import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { type TelemetryFrame, TelemetryFrameSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HOST_VALUES_2 } from '../../proto/telemetry-schema/host.ts';
import { sampleHost } from './host.ts';
import { parseDiskstats, parseNetDev, parsePressure, parseStat, type Values } from './proc-files.ts';
import { TelemetrySampler } from './sampler.ts';
import { Sensors } from './sensors.ts';

const here = {
	procRoot: '/proc',
	sysRoot: '/sys',
	dataFolder: '/',
	clock: systemClock,
	sensors: new Sensors('/sys'),
	runningTasks: () => 3,
};

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
		const keys = new Set(HOST_VALUES_2.map(({ key }) => key));
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
	const build = (send: (frame: TelemetryFrame) => boolean, collect?: (dropped: bigint) => Promise<TelemetryFrame>) => {
		const clock = new VirtualClock();
		const errors: unknown[] = [];
		const frame = async (dropped: bigint) => create(TelemetryFrameSchema, { schema: 2, dropped });
		const sampler = new TelemetrySampler(
			{
				clock,
				nodeId: '0190d7a0-0000-7000-8000-000000800000',
				collect: collect ?? frame,
				send,
				onError: (error) => errors.push(error),
			},
			{ periodMs: 15_000, fastPeriodMs: 0, fastUntilMs: 0 },
		);
		// Frames are made behind a promise: its turn comes between the ticks, as in life.
		const advance = async (ms: number) => {
			for (let left = ms; left > 0; left -= 500) {
				clock.advance(Math.min(500, left));
				await Promise.resolve();
				await Promise.resolve();
			}
		};
		return { clock, sampler, advance, errors };
	};

	it('sends first at the share of its node, then each period', async () => {
		const frames: TelemetryFrame[] = [];
		const { advance } = build((frame) => frames.push(frame) > 0);
		await advance(7499);
		expect(frames).toHaveLength(0);
		await advance(1);
		expect(frames).toHaveLength(1);
		await advance(15_000);
		expect(frames).toHaveLength(2);
	});

	it('counts what the link did not take, and waits for nothing', async () => {
		const { advance, sampler } = build(() => false);
		await advance(7500 + 15_000);
		expect(sampler.dropped).toBe(2n);
	});

	it('lets samples that are late take the place of those after them', async () => {
		const frames: TelemetryFrame[] = [];
		let finish = (_: TelemetryFrame) => {};
		const late = () =>
			new Promise<TelemetryFrame>((resolve) => {
				finish = resolve;
			});
		const { advance, sampler } = build((frame) => frames.push(frame) > 0, late);
		await advance(7500 + 15_000);
		expect([frames.length, sampler.dropped]).toEqual([0, 1n]);
		finish(create(TelemetryFrameSchema, {}));
		await advance(1);
		expect(frames).toHaveLength(1);
	});

	it('drops a sample that fails, says why, and takes the next', async () => {
		const frames: TelemetryFrame[] = [];
		let isFull = true;
		const collect = async (dropped: bigint) => {
			if (isFull) throw new Error('no space left');
			return create(TelemetryFrameSchema, { dropped });
		};
		const { advance, sampler, errors } = build((frame) => frames.push(frame) > 0, collect);
		await advance(7500 + 15_000);
		expect([frames.length, sampler.dropped]).toEqual([0, 2n]);
		expect(errors.map(String)).toEqual(['Error: no space left', 'Error: no space left']);
		isFull = false;
		await advance(15_000);
		expect(frames).toMatchObject([{ dropped: 2n }]);
	});

	it('goes faster at once and slower again when the wish has expired', async () => {
		let count = 0;
		const { clock, sampler, advance } = build(() => {
			count += 1;
			return true;
		});
		sampler.setPlan({ periodMs: 15_000, fastPeriodMs: 1000, fastUntilMs: clock.now() + 3000 });
		await advance(3000);
		expect(count).toBe(3);
		await advance(14_000);
		expect(count).toBe(3);
		sampler[Symbol.dispose]();
		await advance(60_000);
		expect(count).toBe(3);
	});
});
