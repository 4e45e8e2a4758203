import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROBE_LIMITS_DEFAULT } from '../../agent/probe/findings.ts';
import { findNvidiaHardware } from '../../agent/probe/hardware.ts';
import { ProbeKeeper } from '../../agent/probe/keeper.ts';
import { PidFile } from '../../agent/probe/pid-file.ts';
import { probeStarter } from '../../agent/probe/probe-process.ts';
import type { GpuInventory, ProbeSample } from '../../agent/probe/protocol.ts';
import { present } from '../../kit/assert.ts';
import { sleep, systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import { eventually } from '../eventually.ts';
import { numberOf, type Queried, queryNvidiaSmi } from './nvidia-smi.ts';

/**
 * The probe on a real driver, beside nvidia-smi in the same seconds. Asked for with TEST_HARDWARE=1; GPUAAS_HARDWARE_REPORT
 * names a file for the values and the time of the calls.
 */
const library = 'libnvidia-ml.so.1';
let folder: string;
let keeper: ProbeKeeper;
let inventory: GpuInventory;
let samples: readonly ProbeSample[];
let smi: ReadonlyMap<string, Queried>;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), 'gpu-hardware-'));
	const tracePath = join(folder, 'call');
	keeper = new ProbeKeeper({
		clock: systemClock,
		rng: systemRng,
		log: silentLogger,
		limits: PROBE_LIMITS_DEFAULT,
		start: probeStarter({ library, tracePath, compileCache: join(folder, 'cache') }),
		pidFile: new PidFile(join(folder, 'pid')),
		tracePath,
		onFinding: () => undefined,
	});
	keeper.start();
	await eventually('the driver is open', () => keeper.state === 'running');
	inventory = present(await keeper.inventory(), 'the GPUs are listed');
	await keeper.sample(true);
	await sleep(systemClock, 1000);
	const before = present(await keeper.sample(true), 'a sample came');
	smi = queryNvidiaSmi();
	samples = [before, present(await keeper.sample(true), 'another came')];
	report();
});

afterAll(async () => {
	await keeper?.stop();
	rmSync(folder, { recursive: true, force: true });
});

function valuesOf(part: TelemetryPart, row: { readonly values: Float64Array } | undefined): Record<string, number> {
	return Object.fromEntries(CURRENT_SCHEMA[part].map(({ key }, at) => [key, row?.values[at] ?? Number.NaN]));
}

function fastOf(sample: ProbeSample | undefined, uuid: string): Record<string, number> {
	return valuesOf(
		'gpu',
		sample?.gpus.find(({ id }) => id === uuid),
	);
}

function report(): void {
	const path = process.env['GPUAAS_HARDWARE_REPORT'];
	if (path === undefined) return;
	const gpus = inventory.gpus.map((gpu) => ({
		gpu,
		fast: fastOf(samples[1], gpu.uuid),
		slow: valuesOf(
			'gpuSlow',
			samples[1]?.slow?.gpus.find(({ id }) => id === gpu.uuid),
		),
		nvlink0: valuesOf(
			'nvlink',
			samples[1]?.slow?.nvlinks.find(({ id }) => id === gpu.uuid),
		),
		nvidiaSmi: smi.get(gpu.uuid),
	}));
	writeFileSync(
		path,
		JSON.stringify({ driver: keeper.driver, costs: samples.map(({ cost }) => cost), gpus }, null, '\t'),
	);
}

describe('the driver', () => {
	it('is real, seen on the bus, and the GPUs are those of nvidia-smi', () => {
		expect(keeper.driver?.isSimulated).toBe(false);
		expect(findNvidiaHardware().gpus.length).toBeGreaterThanOrEqual(inventory.gpus.length);
		expect(inventory.gpus.map(({ uuid }) => uuid).sort()).toEqual([...smi.keys()].sort());
	});

	it('names each GPU as nvidia-smi does', () => {
		for (const gpu of inventory.gpus) {
			const said = present(smi.get(gpu.uuid), 'nvidia-smi lists it');
			expect([gpu.name, gpu.vbios, gpu.pciBusId.toLowerCase()]).toEqual([
				said.name,
				said.vbios_version,
				said['pci.bus_id'].toLowerCase(),
			]);
			if (!Number.isNaN(numberOf(said.serial))) expect(gpu.serial).toBe(said.serial);
			expect(keeper.driver?.driver).toBe(said.driver_version);
		}
	});
});

/** Ours, what nvidia-smi calls it, ours in its unit, and by how much they may differ within a second. */
const COMPARED: readonly (readonly [string, keyof Queried, number, number])[] = [
	['temperature.gpu', 'temperature.gpu', 1, 1],
	['temperature.memory', 'temperature.memory', 1, 1],
	['power.usage', 'power.draw', 1, 5],
	['power.limit', 'power.limit', 1, 0.01],
	['clock.sm', 'clocks.sm', 1e-6, 30],
	['clock.memory', 'clocks.mem', 1e-6, 1],
	['memory.used', 'memory.used', 1 / 1_048_576, 16],
	['memory.free', 'memory.free', 1 / 1_048_576, 16],
	['utilisation.gpu', 'utilization.gpu', 100, 5],
	['utilisation.memory', 'utilization.memory', 100, 5],
	['ecc.volatile.corrected', 'ecc.errors.corrected.volatile.total', 1, 0],
	['ecc.volatile.uncorrected', 'ecc.errors.uncorrected.volatile.total', 1, 0],
	['pcie.generation', 'pcie.link.gen.current', 1, 0],
	['pcie.width', 'pcie.link.width.current', 1, 0],
	['performance_state', 'pstate', 1, 0],
];

describe('values', () => {
	it.each(COMPARED)('%s is what nvidia-smi says of %s', (key, name, factor, tolerance) => {
		for (const { uuid } of inventory.gpus) {
			const theirs = numberOf(smi.get(uuid)?.[name] ?? '');
			const [before, after] = samples.map((sample) => (fastOf(sample, uuid)[key] ?? Number.NaN) * factor);
			if (Number.isNaN(theirs)) {
				expect(after, `${key} is absent where nvidia-smi has none`).toBeNaN();
				continue;
			}
			// Between the sample before and the one after, give or take.
			expect(theirs).toBeGreaterThanOrEqual(Math.min(before ?? 0, after ?? 0) - tolerance);
			expect(theirs).toBeLessThanOrEqual(Math.max(before ?? 0, after ?? 0) + tolerance);
		}
	});

	it('energy is power over time', async () => {
		const first = present(await keeper.sample(false), 'a sample came');
		const startedMs = systemClock.monotonic();
		const watts: number[] = [];
		for (let second = 0; second < 10; second += 1) {
			await sleep(systemClock, 1000);
			const sample = present(await keeper.sample(false), 'a sample came');
			for (const { uuid } of inventory.gpus) watts.push(fastOf(sample, uuid)['power.usage'] ?? Number.NaN);
		}
		const last = present(await keeper.sample(false), 'a sample came');
		const seconds = (systemClock.monotonic() - startedMs) / 1000;
		const joules = inventory.gpus.reduce(
			(sum, { uuid }) =>
				sum + (fastOf(last, uuid)['energy'] ?? Number.NaN) - (fastOf(first, uuid)['energy'] ?? Number.NaN),
			0,
		);
		const mean = watts.reduce((sum, value) => sum + value, 0) / 10;
		expect(joules / (mean * seconds)).toBeGreaterThan(0.95);
		expect(joules / (mean * seconds)).toBeLessThan(1.05);
	});
});
