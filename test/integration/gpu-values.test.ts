import { describe, expect, it } from 'vitest';
import { LAYOUT, versionWord } from '../../agent/probe/layout.ts';
import { CURRENT_SCHEMA } from '../../proto/telemetry-schema/schemas.ts';
import { absent, FakeGpus, known, valuesOf } from './fake-gpus.ts';

/** Every value against the truth that the fake driver was told, in the process of the test: nothing here hangs. */
const { open, sampleOf } = FakeGpus.forEach();
const MIB = 1_048_576;
const GIB = 1024 * MIB;

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
