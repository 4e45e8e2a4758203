import { GPM_METRICS } from '../../proto/telemetry-schema/gpm.ts';
import { LAYOUT } from './layout.ts';
import { allocate, readHandle } from './library.ts';
import type { Reader } from './reader.ts';
import { NVML } from './returns.ts';

/**
 * GPM of one GPU or of one MIG GPU instance: the metrics are what happened between two samples, so each reading uses the
 * sample of the reading before, one period ago. The first reading has none.
 */
const VERSION = 1;
const PERCENT = 100;
const MIB = 1_048_576;
const { offsets } = LAYOUT.nvmlGpmMetricsGet_t;
const metric = LAYOUT.nvmlGpmMetric_t;
const request = allocate('nvmlGpmMetricsGet_t');
const handleRoom = Buffer.alloc(8);

export class Gpm {
	#samples: readonly [number, number];
	/** Whether the first of them holds a sample. */
	#hasFormer = false;

	private constructor(samples: readonly [number, number]) {
		this.#samples = samples;
	}

	/** Undefined when the GPU has no GPM or the library is too old. */
	static open(reader: Reader, handle: number): Gpm | undefined {
		const support = allocate('nvmlGpmSupport_t');
		support.writeUInt32LE(VERSION, 0);
		if (!reader.call('nvmlGpmQueryDeviceSupport', handle, support)) return undefined;
		if (support.readUInt32LE(LAYOUT.nvmlGpmSupport_t.offsets.isSupportedDevice) === 0) return undefined;
		const first = allocateSample(reader);
		const second = allocateSample(reader);
		return first === undefined || second === undefined ? undefined : new Gpm([first, second]);
	}

	/** `instance`: of a MIG GPU instance; undefined: the whole GPU. */
	read(reader: Reader, handle: number, instance: number | undefined, set: (key: string, value: number) => void): void {
		const [former, sample] = this.#samples;
		const taken =
			instance === undefined
				? reader.call('nvmlGpmSampleGet', handle, sample)
				: reader.call('nvmlGpmMigSampleGet', handle, instance, sample);
		if (!taken) {
			this.#hasFormer = false;
			return;
		}
		if (this.#hasFormer) compare(reader, former, sample, set);
		this.#samples = [sample, former];
		this.#hasFormer = true;
	}

	free(reader: Reader): void {
		for (const sample of this.#samples) reader.nvml.call('nvmlGpmSampleFree', sample);
	}
}

function compare(reader: Reader, former: number, sample: number, set: (key: string, value: number) => void): void {
	request.fill(0, 0, offsets.metrics + GPM_METRICS.length * metric.size);
	request.writeUInt32LE(VERSION, offsets.version);
	request.writeUInt32LE(GPM_METRICS.length, offsets.numMetrics);
	request.writeBigUInt64LE(BigInt(former), offsets.sample1);
	request.writeBigUInt64LE(BigInt(sample), offsets.sample2);
	for (const [index, { id }] of GPM_METRICS.entries())
		request.writeUInt32LE(id, offsets.metrics + index * metric.size + metric.offsets.metricId);
	if (!reader.call('nvmlGpmMetricsGet', request)) return;
	for (const [index, { key, isRatio }] of GPM_METRICS.entries()) {
		const at = offsets.metrics + index * metric.size;
		if (request.readUInt32LE(at + metric.offsets.nvmlReturn) !== NVML.success) continue;
		const value = request.readDoubleLE(at + metric.offsets.value);
		set(key, isRatio ? value / PERCENT : value * MIB);
	}
}

function allocateSample(reader: Reader): number | undefined {
	return reader.call('nvmlGpmSampleAlloc', handleRoom) ? readHandle(handleRoom) : undefined;
}
