import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CallName } from '../../agent/probe/calls.ts';
import { Driver } from '../../agent/probe/driver.ts';
import { Nvml } from '../../agent/probe/library.ts';
import { DriverFault } from '../../agent/probe/returns.ts';
import { systemClock } from '../../kit/clock.ts';
import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { FakeDriver } from '../fakes/nvml/build.ts';

/** When the driver's list is read again, and what a GPU that leaves meanwhile costs the others: nothing. */
const STATUS = GPU_VALUES.findIndex(({ key }) => key === 'nvml.status');

let folder: string;
let drivers: Driver[];
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpu-list-'));
	drivers = [];
});
afterEach(() => {
	for (const driver of drivers) driver.close();
	rmSync(folder, { recursive: true, force: true });
});

function open(scenario: string, enter: (call: CallName) => void = () => undefined) {
	const fake = new FakeDriver(folder, scenario);
	const driver = Driver.open(new Nvml(fake.library, systemClock, { enter }), systemClock, () => undefined);
	if ('code' in driver) throw new Error(driver.message);
	drivers.push(driver);
	return { fake, driver };
}

describe('the list of GPUs and slices', () => {
	it.each([
		['nvmlDeviceGetSupportedEventTypes', 15],
		['nvmlDeviceRegisterEvents', 16],
	])('is whole when a GPU leaves at %s', (call, code) => {
		const { fake, driver } = open(`gpus 2\nfail ${call} ${code} 0`);
		expect(driver.sample(false).gpus).toHaveLength(2);
		fake.set('gpus 2\nevent 1 8 79');
		expect(driver.sample(false).events).toMatchObject([{ uuid: 'GPU-fa4e0000-0000-4000-8000-000000000001' }]);
	});

	it('stays when all that the driver says is that one is gone', () => {
		const { fake, driver } = open('gpus 2');
		driver.sample(false);
		fake.set('gpus 2\nlost 1\nfail nvmlDeviceGetCount_v2 15');
		const { gpus, isListChanged } = driver.sample(true);
		expect(gpus.map((gpu) => gpu.values[STATUS])).toEqual([0, 15]);
		expect(isListChanged).toBe(false);
		expect(driver.inventory()).toMatchObject({ gpus: [{ index: 0 }], silent: [{ index: 1, code: 15 }] });
	});

	it.each([1, 999])('that can not be counted (%i) is a fault of the driver, not a host without GPUs', (code) => {
		const { fake, driver } = open('gpus 2');
		driver.sample(false);
		fake.set(`gpus 2\nfail nvmlDeviceGetCount_v2 ${code}`);
		expect(() => driver.sample(false)).toThrow(DriverFault);
		expect(() => open(`gpus 2\nfail nvmlDeviceGetCount_v2 ${code}`).driver.inventory()).toThrow(DriverFault);
	});

	it('that fails half-way frees nothing twice', () => {
		let freed = 0;
		const { fake, driver } = open('model h100\ngpus 2', (call) => {
			if (call === 'nvmlGpmSampleFree') freed += 1;
		});
		driver.sample(false);
		fake.set('model h100\ngpus 3\nfail nvmlDeviceGetUUID 18');
		expect(() => driver.sample(false)).toThrow(DriverFault);
		driver.close();
		expect(freed).toBe(4);
	});

	it('is read again after MIG was configured', () => {
		const { fake, driver } = open('gpus 1\nmig 2');
		driver.sample(false);
		fake.set('gpus 1\nmig 3\nevent 0 0x100 0');
		expect(driver.sample(false)).toMatchObject({ isListChanged: false, events: [{ type: 0x100 }] });
		const { isListChanged, slices } = driver.sample(false);
		expect([isListChanged, slices.length]).toEqual([true, 3]);
		expect(driver.sample(false).isListChanged).toBe(false);
	});

	it('is read again when a slice is not there any more', () => {
		const { fake, driver } = open('gpus 1\nmig 3');
		driver.sample(false);
		fake.set('gpus 1\nmig 2');
		expect(driver.sample(false).isListChanged).toBe(false);
		const { isListChanged, slices } = driver.sample(false);
		expect([isListChanged, slices.length]).toEqual([true, 2]);
	});

	it('is not read each time when slices always answer an error', () => {
		const { driver } = open('gpus 1\nmig 2\nfail nvmlDeviceGetMemoryInfo_v2 999');
		const changes = Array.from({ length: 4 }, () => driver.sample(false).isListChanged);
		expect(changes).toEqual([true, true, false, false]);
	});

	it('is read again when one that was silent answers', () => {
		const { fake, driver } = open('gpus 2\nlost 0');
		expect(driver.sample(true).gpus).toHaveLength(1);
		expect(driver.sample(true).isListChanged).toBe(false);
		fake.set('gpus 2');
		const { isListChanged, gpus } = driver.sample(true);
		expect([isListChanged, gpus.length]).toEqual([true, 2]);
	});

	it('read again loses no event', () => {
		const { fake, driver } = open('gpus 2');
		driver.sample(false);
		fake.set('gpus 3\nevent 1 8 79');
		expect(driver.sample(false)).toMatchObject({ isListChanged: true, events: [{ xid: 79 }] });
		expect(driver.sample(false).events).toEqual([]);
	});
});
