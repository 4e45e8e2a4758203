import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CallName } from '../../agent/probe/calls.ts';
import { Driver } from '../../agent/probe/driver.ts';
import { LAYOUT, versionWord } from '../../agent/probe/layout.ts';
import { Nvml } from '../../agent/probe/library.ts';
import type { PartValues, ProbeSample } from '../../agent/probe/protocol.ts';
import { systemClock } from '../../kit/clock.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import { FakeDriver, type FakeNvmlOptions } from '../fakes/nvml/build.ts';

/** Every value against the truth that the fake driver was told, in the process of the test: nothing here hangs. */
const MIB = 1_048_576;
const GIB = 1024 * MIB;

let folder: string;
let drivers: Driver[];
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpu-values-'));
	drivers = [];
});
afterEach(() => {
	for (const driver of drivers) driver.close();
	rmSync(folder, { recursive: true, force: true });
});

function open(scenario: string, options: FakeNvmlOptions = {}, enter: (call: CallName) => void = () => undefined) {
	const fake = new FakeDriver(folder, `tick 100\n${scenario}`, options);
	const driver = Driver.open(new Nvml(fake.library, systemClock, { enter }), systemClock, () => undefined);
	if ('code' in driver) throw new Error(driver.message);
	drivers.push(driver);
	return { fake, driver };
}

/** GPM compares two samples, so the second is the first that is whole. */
function sampleOf(scenario: string, options?: FakeNvmlOptions): ProbeSample {
	const { driver } = open(scenario, options);
	driver.sample(false);
	return driver.sample(true);
}

function valuesOf(part: TelemetryPart, row: PartValues | undefined): Record<string, number> {
	return Object.fromEntries(CURRENT_SCHEMA[part].map(({ key }, at) => [key, row?.values[at] ?? Number.NaN]));
}

function known(values: Record<string, number>): Record<string, number> {
	return Object.fromEntries(Object.entries(values).filter(([, value]) => !Number.isNaN(value)));
}

const absent = (values: Record<string, number>) => Object.keys(values).filter((key) => Number.isNaN(values[key]));

describe('processes', () => {
	const GPU_0 = 'GPU-fa4e0000-0000-4000-8000-000000000000';
	const processesOf = (scenario: string, options?: FakeNvmlOptions) =>
		open(`model h100\ngpus 1\n${scenario}`, options).driver.sample(true, true).slow?.processes;

	it('are listed with what each uses, where that was asked for, and else not asked about', () => {
		expect(processesOf('process 0 4712 512 -1\nprocess 0 4711 2048 37')).toEqual({
			processes: [
				{ id: GPU_0, pid: 4711, memoryBytes: 2048 * MIB, sm: 0.37 },
				{ id: GPU_0, pid: 4712, memoryBytes: 512 * MIB, sm: Number.NaN },
			],
			leftOut: 0,
		});
		const calls: string[] = [];
		const { driver } = open('model h100\ngpus 1\nprocess 0 4711 2048 37', {}, (call) => calls.push(call));
		expect(driver.sample(true).slow).not.toHaveProperty('processes');
		expect(driver.sample(false, true).slow).toBeUndefined();
		expect(calls).not.toContain('nvmlDeviceGetProcessUtilization');
	});

	it('that the driver knows less of have less, never 0', () => {
		expect(processesOf('process 0 4711 -1 5')?.processes).toEqual([
			{ id: GPU_0, pid: 4711, memoryBytes: Number.NaN, sm: 0.05 },
		]);
		expect(processesOf('')).toEqual({ processes: [], leftOut: 0 });
	});

	it('of an older driver have no shares', () => {
		const missing = ['nvmlDeviceGetProcessUtilization', 'nvmlDeviceGetMPSComputeRunningProcesses_v3'];
		expect(processesOf('process 0 4711 1 5', { missing })?.processes).toEqual([
			{ id: GPU_0, pid: 4711, memoryBytes: MIB, sm: Number.NaN },
		]);
	});

	it('that did nothing since the last look have no share of it', () => {
		const { driver, fake } = open('model h100\ngpus 1\nprocess 0 4711 1 5');
		const shareOf = () => driver.sample(true, true).slow?.processes?.processes.map(({ sm }) => sm);
		expect([shareOf(), shareOf()]).toEqual([[0.05], [Number.NaN]]);
		fake.set('tick 160\nmodel h100\ngpus 1\nprocess 0 4711 1 80');
		expect(shareOf()).toEqual([0.8]);
	});

	it('are those with the most memory where there are many', () => {
		const many = Array.from({ length: 40 }, (_, n) => `process 0 ${100 + n} ${n} 1`);
		const found = processesOf(many.join('\n'));
		expect([found?.processes.length, found?.leftOut]).toEqual([32, 8]);
		expect(found?.processes.map(({ pid }) => pid)).toEqual(Array.from({ length: 32 }, (_, n) => 139 - n));
	});

	it('under MIG are of their MIG device, which has no shares', () => {
		expect(processesOf('mig 2\nprocess 0 4711 64 9')?.processes).toEqual([
			{
				...{ id: 'MIG-fa4e0000-0000-4000-8000-000000000000', pid: 4711 },
				...{ memoryBytes: 64 * MIB, sm: Number.NaN },
			},
		]);
	});
});

describe('structures', () => {
	it('have the sizes and version words that the reference lists', () => {
		const sizes = Object.entries(LAYOUT).map(([name, { size }]) => [name, size]);
		expect(Object.fromEntries(sizes)).toMatchObject({
			nvmlFieldValue_t: 40,
			nvmlMemory_v2_t: 40,
			nvmlUtilization_t: 8,
			nvmlPciInfo_t: 68,
			nvmlProcessInfo_t: 24,
			nvmlEventData_t: 32,
			nvmlGpuFabricInfo_v3_t: 40,
			nvmlGpuFabricInfo_v2_t: 36,
			nvmlEccSramErrorStatus_v1_t: 104,
			nvmlGpuInstanceProfileInfo_v2_t: 152,
			nvmlGpmMetric_t: 40,
			nvmlGpmMetricsGet_t: 13_344,
			nvmlPlatformInfo_v2_t: 44,
		});
		const words = [
			[LAYOUT.nvmlMemory_v2_t, 0x02000028],
			[LAYOUT.nvmlGpuFabricInfo_v3_t, 0x03000028],
			[LAYOUT.nvmlGpuFabricInfo_v2_t, 0x02000024],
			[LAYOUT.nvmlEccSramErrorStatus_v1_t, 0x01000068],
			[LAYOUT.nvmlTemperature_v1_t, 0x0100000c],
			[LAYOUT.nvmlMarginTemperature_v1_t, 0x01000008],
			[LAYOUT.nvmlGpuInstanceProfileInfo_v2_t, 0x02000098],
			[LAYOUT.nvmlPlatformInfo_v2_t, 0x0200002c],
			[LAYOUT.nvmlRepairStatus_v1_t, 0x0100000c],
		] as const;
		expect(words.map(([layout]) => versionWord(layout))).toEqual(words.map(([, word]) => word));
	});
});

describe('H100', () => {
	it('does not know how many links are up when one of them answers with an error', () => {
		const { driver, fake } = open('model h100\ngpus 2\nnvlink_error 1 5');
		const active = () => driver.sample(true).gpus.map((gpu) => valuesOf('gpu', gpu)['nvlink.active']);
		expect(active()).toEqual([18, Number.NaN]);
		fake.set('tick 101\nmodel h100\ngpus 2\nnvlinks_down 1 1');
		expect(active()).toEqual([18, 17]);
	});

	it('gives every fast value in its base unit', () => {
		const sample = sampleOf('model h100\ngpus 2\nthrottle 1 0x44\nprocesses 1 3\ntemperature 1 55\necc_corrected 1 7');
		expect(valuesOf('gpu', sample.gpus[1])).toEqual({
			'nvml.status': 0,
			'nvml.call_max': expect.any(Number),
			'utilisation.gpu': 0.41,
			'utilisation.memory': 0.21,
			'utilisation.encoder': 0.02,
			'utilisation.decoder': 0.03,
			'memory.used': 2 * GIB,
			'memory.free': 80 * GIB - 2 * GIB - 512 * MIB,
			'memory.reserved': 512 * MIB,
			'power.usage': 301.5,
			'power.average': 301,
			'power.instant': 311,
			'power.limit': 700,
			energy: 1000.001 + 100 * 300,
			'clock.graphics': 1700e6,
			'clock.sm': 1751e6,
			'clock.memory': 2619e6,
			'clock.video': 1545e6,
			performance_state: 0,
			'throttle.reasons': 0x44,
			'throttled.power': 11,
			'throttled.sync_boost': 0,
			'throttled.sw_thermal': 1,
			'throttled.hw_thermal': 2,
			'throttled.power_brake': 3,
			'temperature.gpu': 55,
			'temperature.memory': 65,
			'temperature.margin': 32,
			'ecc.volatile.corrected': 7,
			'ecc.volatile.uncorrected': 0,
			'ecc.aggregate.corrected': 7,
			'ecc.aggregate.uncorrected': 0,
			'remapped.correctable': 0,
			'remapped.uncorrectable': 0,
			'remap.pending': 0,
			'remap.failure': 0,
			'nvlink.active': 18,
			'nvlink.tx': 18 * (1001 + 100 * 100) * 1024,
			'nvlink.rx': 18 * (2001 + 100 * 200) * 1024,
			'pcie.generation': 5,
			'pcie.width': 16,
			'pcie.replays': 1,
			'pcie.tx': 1000 + 100_000,
			'pcie.rx': 2000 + 200_000,
			'processes.compute': 3,
			// Metric ids plus a tenth for each GPU, percent or MiB/s.
			'gpm.graphics': expect.closeTo(0.011),
			'gpm.sm': expect.closeTo(0.021),
			'gpm.occupancy': expect.closeTo(0.031),
			'gpm.tensor': expect.closeTo(0.051),
			'gpm.dram': expect.closeTo(0.101),
			'gpm.fp64': expect.closeTo(0.111),
			'gpm.fp32': expect.closeTo(0.121),
			'gpm.fp16': expect.closeTo(0.131),
			'gpm.pcie_tx': 20.1 * MIB,
			'gpm.pcie_rx': 21.1 * MIB,
			'gpm.nvlink_tx': 61.1 * MIB,
			'gpm.nvlink_rx': 60.1 * MIB,
			recovery_action: 0,
			// Of the kernel log, which the probe doesn't read.
			'xid.last': Number.NaN,
		});
	});

	it('gives every slow value that it has, and nothing for what is older or newer', () => {
		const values = valuesOf('gpuSlow', sampleOf('model h100\ngpus 1\nnvlink_replays 0 5').slow?.gpus[0]);
		expect(known(values)).toMatchObject({
			'memory.total': 80 * GIB,
			'bar1.total': 128 * GIB,
			'bar1.used': 2 * MIB,
			'power.default': 700,
			'power.min': 200,
			'clock.sm.max': 1980e6,
			'temperature.shutdown': -8,
			'temperature.slowdown': -2,
			'ecc.enabled': 1,
			'sram.corrected': 11,
			'sram.parity': 1,
			'sram.secded': 2,
			'remap.banks.max': 640,
			'remap.banks.partial': 1,
			'nvlink.links': 18,
			'nvlink.replays': 18 * 5,
			'pcie.naks_received': 1,
			'pcie.lane': 10,
			'mig.enabled': 0,
			persistence: 1,
			'fabric.state': 3,
			'fabric.health': 1,
			'fabric.degraded_bandwidth': 2,
			'fabric.misconfiguration': 1,
			'fabric.partition': 1,
			'confidential.enabled': 0,
		});
		expect(absent(values)).toEqual([
			'power.module',
			'retired.single_bit',
			'retired.double_bit',
			'retired.pending',
			'mig.slices',
			'repair.channel_pending',
			'repair.tpc_pending',
			'memory.unrepairable',
		]);
	});

	it('lists what it is by UUID', () => {
		const { driver } = open('model h100\ngpus 2');
		expect(driver.inventory()).toMatchObject({
			silent: [],
			gpus: [
				{ uuid: 'GPU-fa4e0000-0000-4000-8000-000000000000', index: 0 },
				{
					uuid: 'GPU-fa4e0000-0000-4000-8000-000000000001',
					index: 1,
					name: 'NVIDIA H100 80GB HBM3',
					serial: '1650000000001',
					pciBusId: '00000000:2B:00.0',
					pciDeviceId: '233010de',
					minor: 1,
					numaNode: 0,
					memoryBytes: 80 * GIB,
					architecture: 9,
					cudaCapability: [9, 0],
					nvlinks: 18,
					hasGpm: true,
					isMig: false,
					fabricClique: 4,
				},
			],
		});
	});
});

describe('other models', () => {
	it('A100 has no GPM, no fabric, no average power: absent, never 0', () => {
		const sample = sampleOf('model a100\ngpus 1');
		const fast = valuesOf('gpu', sample.gpus[0]);
		expect(absent(fast)).toEqual([
			'power.average',
			'pcie.tx',
			'pcie.rx',
			...CURRENT_SCHEMA.gpu.map(({ key }) => key).filter((key) => key.startsWith('gpm.')),
			'xid.last',
		]);
		expect(fast['nvlink.active']).toBe(12);
		const slow = valuesOf('gpuSlow', sample.slow?.gpus[0]);
		expect(absent(slow).filter((key) => /^(fabric|confidential)\./.test(key))).toHaveLength(12);
	});

	it('B200 counts NVLink 5 in bytes, with its own errors and bit error rates', () => {
		const sample = sampleOf('model b200\ngpus 1\nnvlink_replays 0 3');
		expect(valuesOf('gpu', sample.gpus[0])['nvlink.tx']).toBe(18 * (5000 + 100 * 5000));
		const link = valuesOf('nvlink', sample.slow?.nvlinks[2]);
		expect(link).toMatchObject({
			up: 1,
			version: 7,
			speed: 53_125e6,
			tx: 505_000,
			'errors.local_integrity': 3,
			'errors.recovery_failed': 1,
			'errors.recovery': 2,
			'ber.effective': expect.closeTo(5e-12, 20),
			'fec.high': 8,
		});
		expect(absent(link)).toEqual(['errors.replay', 'errors.crc']);
		const slow = valuesOf('gpuSlow', sample.slow?.gpus[0]);
		expect(slow).toMatchObject({ 'power.module': 310, 'repair.channel_pending': 0, 'memory.unrepairable': 0 });
	});

	it('H100 counts NVLink 4 in KiB, and has none of the counters of NVLink 5', () => {
		const link = valuesOf('nvlink', sampleOf('model h100\ngpus 1\nnvlinks_down 0 2').slow?.nvlinks[1]);
		expect(known(link)).toEqual({
			up: 0,
			version: 6,
			speed: 26_562e6,
			tx: 11_000 * 1024,
			rx: 22_000 * 1024,
			'errors.replay': 0,
			'errors.recovery': 0,
			'errors.crc': 0,
		});
	});
});

describe('MIG', () => {
	it('has values by slice, and of the whole GPU only what NVML still has', () => {
		const sample = sampleOf('model h100\ngpus 2\nmig 3');
		expect(sample.slices.map(({ id }) => id)).toEqual(
			[0, 1].flatMap((gpu) => [0, 1, 2].map((slice) => `MIG-fa4e0000-0000-4000-8000-00000${gpu}00000${slice}`)),
		);
		expect(valuesOf('slice', sample.slices[4])).toMatchObject({
			'memory.total': 10 * GIB,
			'memory.used': GIB,
			'sm.count': 16,
			'gpm.graphics': expect.closeTo((1 + 0.1 + 8) / 100),
			'gpm.tensor': expect.closeTo((5 + 0.1 + 8) / 100),
		});
		const gpu = valuesOf('gpu', sample.gpus[0]);
		expect(absent(gpu).filter((key) => /^(utilisation|remap)/.test(key))).toHaveLength(8);
		expect(gpu['memory.used']).toBe(GIB);
		expect(valuesOf('gpuSlow', sample.slow?.gpus[0])).toMatchObject({
			'mig.enabled': 1,
			'mig.slices': 3,
			'remap.banks.max': 640,
		});
	});

	it('names profile and instances of a slice', () => {
		const { driver } = open('model h200\ngpus 1\nmig 2');
		expect(driver.inventory().gpus[0]?.slices[1]).toMatchObject({
			profile: '1g.10gb',
			gpuInstance: 8,
			computeInstance: 0,
			gpuUuid: 'GPU-fa4e0000-0000-4000-8000-000000000000',
			multiprocessors: 16,
		});
	});

	it('A100 slices have no GPM either', () => {
		const slice = valuesOf('slice', sampleOf('model a100\ngpus 1\nmig 1').slices[0]);
		expect(absent(slice)).toEqual(CURRENT_SCHEMA.slice.map(({ key }) => key).filter((key) => key.startsWith('gpm.')));
	});
});

describe('drivers of other versions', () => {
	it('one that lacks functions leaves out what they measure, and nothing else', () => {
		const missing = [
			'nvmlDeviceGetMarginTemperature',
			'nvmlDeviceGetTemperatureV',
			'nvmlGpmQueryDeviceSupport',
			'nvmlDeviceGetCurrentClocksEventReasons',
			'nvmlDeviceGetGpuFabricInfoV',
			'nvmlDeviceGetMemoryInfo_v2',
		];
		const { driver } = open('model h100\ngpus 1\nthrottle 0 8', { missing });
		expect([...driver.describe().missing].sort()).toEqual([...missing].sort());
		driver.sample(false);
		const sample = driver.sample(true);
		const fast = valuesOf('gpu', sample.gpus[0]);
		expect(absent(fast).filter((key) => !key.startsWith('gpm.'))).toEqual([
			'memory.reserved',
			'temperature.margin',
			'xid.last',
		]);
		expect(fast['temperature.gpu']).toBe(40);
		// The former name of the function, and the former structure, whose `used` has what is reserved in it.
		expect(fast['throttle.reasons']).toBe(8);
		expect(fast['memory.used']).toBe(GIB + 512 * MIB);
		const slow = valuesOf('gpuSlow', sample.slow?.gpus[0]);
		expect(absent(slow)).toContain('fabric.state');
		expect(slow['memory.total']).toBe(80 * GIB);
	});

	it('one that knows the former structure only is asked with that', () => {
		const slow = valuesOf('gpuSlow', sampleOf('model h100\ngpus 1\nfabric_version 2').slow?.gpus[0]);
		expect([slow['fabric.state'], slow['fabric.health']]).toEqual([3, Number.NaN]);
	});

	it('of a fabric that is not there yet the status says nothing', () => {
		const fabricOf = (state: number) => {
			const scenario = `model h100\ngpus 1\nfabric 0 ${state} 1\nfabric_status 0 999`;
			return valuesOf('gpuSlow', sampleOf(scenario).slow?.gpus[0])['fabric.status'];
		};
		expect([fabricOf(2), fabricOf(3)]).toEqual([Number.NaN, 999]);
	});

	it('a single call that fails leaves out its value', () => {
		const fast = valuesOf(
			'gpu',
			sampleOf('gpus 1\nfail nvmlDeviceGetPowerUsage 999\nfail nvmlDeviceGetTemperatureV 3').gpus[0],
		);
		expect(absent(fast)).toEqual(['power.usage', 'temperature.gpu', 'xid.last']);
	});
});

describe('a GPU that goes', () => {
	it('is a row that says so and nothing else, while the others go on', () => {
		const { fake, driver } = open('gpus 3');
		driver.sample(false);
		fake.set('tick 100\ngpus 3\nlost 1');
		const sample = driver.sample(true);
		expect(known(valuesOf('gpu', sample.gpus[1]))).toEqual({ 'nvml.status': 15 });
		expect(sample.slow?.gpus).toHaveLength(2);
		expect(valuesOf('gpu', sample.gpus[2])['utilisation.gpu']).toBe(0.42);
		fake.set('tick 100\ngpus 3\nlost 1 16');
		expect(known(valuesOf('gpu', driver.sample(false).gpus[1]))).toEqual({ 'nvml.status': 16 });
		fake.set('tick 100\ngpus 3');
		expect(valuesOf('gpu', driver.sample(false).gpus[1])['utilisation.gpu']).toBe(0.41);
	});

	it('moves the numbers of those behind it, not their names', () => {
		const { fake, driver } = open('gpus 3');
		driver.sample(false);
		fake.set('tick 100\ngpus 3\ngone 1');
		const sample = driver.sample(false);
		expect(sample.isListChanged).toBe(true);
		expect(sample.gpus.map(({ id, index }) => [id.slice(-1), index])).toEqual([
			['0', 0],
			['2', 1],
		]);
		expect(valuesOf('gpu', sample.gpus[1])['temperature.gpu']).toBe(42);
	});

	it('one that is listed and can not be asked is silent, not a GPU without a name', () => {
		const { driver } = open('gpus 2\nlost 0');
		expect(driver.inventory()).toMatchObject({ gpus: [{ index: 1 }], silent: [{ index: 0, code: 15 }] });
	});
});

describe('counters', () => {
	it('that wrap are told as they are', () => {
		const { fake, driver } = open('gpus 1\nwrap 1\ntick 0');
		const before = valuesOf('gpu', driver.sample(false).gpus[0])['pcie.tx'] ?? 0;
		fake.set('gpus 1\nwrap 1\ntick 1');
		const after = valuesOf('gpu', driver.sample(false).gpus[0])['pcie.tx'] ?? 0;
		expect(before).toBe(0xffff_ffff);
		expect(after).toBe(999);
	});

	it('of corrected errors rise with a storm', () => {
		const { fake, driver } = open('gpus 1\necc_storm 0 17700');
		expect(valuesOf('gpu', driver.sample(false).gpus[0])['ecc.volatile.corrected']).toBe(1_770_000);
		fake.set('gpus 1\necc_storm 0 17700\ntick 115');
		expect(valuesOf('gpu', driver.sample(false).gpus[0])['ecc.volatile.corrected']).toBe(2_035_500);
	});
});

it('events of the driver come once, with the GPU that they are of', () => {
	const { fake, driver } = open('gpus 2');
	expect(driver.sample(false).events).toEqual([]);
	fake.set('gpus 2\nevent 1 8 79\nevent 0 0x200 0');
	expect(driver.sample(false).events).toEqual([
		{ uuid: 'GPU-fa4e0000-0000-4000-8000-000000000001', type: 8, xid: 79, gpuInstance: 0xffff_ffff },
		{ uuid: 'GPU-fa4e0000-0000-4000-8000-000000000000', type: 0x200, xid: undefined, gpuInstance: 0xffff_ffff },
	]);
	expect(driver.sample(false).events).toEqual([]);
});

describe('whichever call fails', () => {
	/** Every call that a sample of a GPU makes, found by looking. */
	function callsOf(scenario: string): readonly CallName[] {
		const calls = new Set<CallName>();
		const { driver } = open(scenario, {}, (call) => calls.add(call));
		driver.sample(false);
		calls.clear();
		driver.sample(true);
		// About no GPU in particular.
		return [...calls].filter((call) => /^nvml(Device|Gpm)/.test(call) && !/Count|MetricsGet/.test(call)).sort();
	}

	it.each(['model h100\ngpus 2', 'model h100\ngpus 2\nmig 2', 'model b200\ngpus 2'])(
		'%j: a GPU that is lost at any of them is a row that says so',
		(scenario) => {
			const calls = callsOf(scenario);
			expect(calls.length).toBeGreaterThan(25);
			const { fake, driver } = open(scenario);
			driver.sample(false);
			for (const call of calls) {
				fake.set(`tick 100\n${scenario}\nfail ${call} 15 0`);
				const sample = driver.sample(true);
				expect(known(valuesOf('gpu', sample.gpus[0])), call).toEqual({ 'nvml.status': 15 });
				expect(valuesOf('gpu', sample.gpus[1])['nvml.status'], call).toBe(0);
			}
		},
	);

	it('an error of the driver at any of them leaves out something, never the GPU', () => {
		const scenario = 'model h100\ngpus 2';
		const calls = callsOf(scenario);
		const { fake, driver } = open(scenario);
		driver.sample(true);
		const whole = Object.keys(known(valuesOf('gpu', driver.sample(true).gpus[0]))).length;
		for (const call of calls) {
			fake.set(`tick 100\n${scenario}\nfail ${call} 999 0`);
			const count = Object.keys(known(valuesOf('gpu', driver.sample(true).gpus[0]))).length;
			expect(count, call).toBeGreaterThan(20);
			expect(count, call).toBeLessThanOrEqual(whole);
		}
	});
});
