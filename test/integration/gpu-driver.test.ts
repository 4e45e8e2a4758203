import { describe, expect, it } from 'vitest';
import type { CallName } from '../../agent/probe/calls.ts';
import { DriverFault } from '../../agent/probe/returns.ts';
import type { FakeNvmlOptions } from '../fakes/nvml/build.ts';
import { absent, FakeGpus, known, valuesOf } from './fake-gpus.ts';

/** Drivers that are older, newer, or lose GPUs, and what only some have: what is left out then, and what is not. */
const { open, sampleOf } = FakeGpus.forEach();
const MIB = 1_048_576;
const GIB = 1024 * MIB;

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
		const nameless = open('gpus 2\nfail nvmlDeviceGetUUID 999 0').driver;
		expect(nameless.inventory()).toMatchObject({ gpus: [{ index: 1 }], silent: [{ index: 0, code: 999 }] });
	});
});

it('a driver that was changed while it is asked is of no more use as a whole, whichever call says so', () => {
	const { fake, driver } = open('gpus 2');
	driver.sample(false);
	for (const call of ['nvmlDeviceGetPowerUsage', 'nvmlDeviceGetFieldValues', 'nvmlDeviceGetClockInfo']) {
		fake.set(`tick 100\ngpus 2\nfail ${call} 18 1`);
		expect(() => driver.sample(false), call).toThrow(DriverFault);
	}
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
