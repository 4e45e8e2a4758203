import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { CallName } from '../../agent/probe/calls.ts';
import { Driver } from '../../agent/probe/driver.ts';
import { Nvml } from '../../agent/probe/library.ts';
import type { PartValues, ProbeSample } from '../../agent/probe/protocol.ts';
import { systemClock } from '../../kit/clock.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import { FakeDriver, type FakeNvmlOptions } from '../fakes/nvml/build.ts';

type Enter = (call: CallName) => void;

/** The probe's driver on the fake library, in the process of the test; closed after each. */
export class FakeGpus {
	#folder = '';
	#drivers: Driver[] = [];

	/** For all tests of a file. */
	static forEach(): Pick<FakeGpus, 'open' | 'sampleOf'> {
		const gpus = new FakeGpus();
		beforeEach(() => {
			gpus.#folder = mkdtempSync(join(tmpdir(), 'gpu-values-'));
			gpus.#drivers = [];
		});
		afterEach(() => {
			for (const driver of gpus.#drivers) driver.close();
			rmSync(gpus.#folder, { recursive: true, force: true });
		});
		return gpus;
	}

	readonly open = (scenario: string, options: FakeNvmlOptions = {}, enter: Enter = () => undefined) => {
		const fake = new FakeDriver(this.#folder, `tick 100\n${scenario}`, options);
		const driver = Driver.open(new Nvml(fake.library, systemClock, { enter }), systemClock, () => undefined);
		if ('code' in driver) throw new Error(driver.message);
		this.#drivers.push(driver);
		return { fake, driver };
	};

	/** GPM compares two samples, so the second is the first that is whole. */
	readonly sampleOf = (scenario: string, options?: FakeNvmlOptions): ProbeSample => {
		const { driver } = this.open(scenario, options);
		driver.sample(false);
		return driver.sample(true);
	};
}

export function valuesOf(part: TelemetryPart, row: PartValues | undefined): Record<string, number> {
	return Object.fromEntries(CURRENT_SCHEMA[part].map(({ key }, at) => [key, row?.values[at] ?? Number.NaN]));
}

export function known(values: Record<string, number>): Record<string, number> {
	return Object.fromEntries(Object.entries(values).filter(([, value]) => !Number.isNaN(value)));
}

export const absent = (values: Record<string, number>) =>
	Object.keys(values).filter((key) => Number.isNaN(values[key]));
