import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { FieldBatch } from './field-batch.ts';
import { FIELD, SCOPE_ALL_LINKS } from './fields.ts';
import type { Gpu } from './gpu.ts';
import { LAYOUT } from './layout.ts';
import { allocate } from './library.ts';
import type { Reader } from './reader.ts';
import { positionsOf, Row } from './row.ts';

/** The fast values of one GPU: one batch of fields and some twenty calls. */
const MILLI = 1000;
const NANO = 1e9;
const MHZ = 1e6;
const PERCENT = 100;
const KIB = 1024;

const POSITIONS = positionsOf(GPU_VALUES);
const utilisation = allocate('nvmlUtilization_t');
const memory = allocate('nvmlMemory_v2_t');
const formerMemory = allocate('nvmlMemory_t');
const temperature = allocate('nvmlTemperature_v1_t');
const margin = allocate('nvmlMarginTemperature_v1_t');

const COMMON = [
	{ field: FIELD.powerAverage, key: 'power.average', divisor: MILLI },
	{ field: FIELD.powerInstant, key: 'power.instant', divisor: MILLI },
	{ field: FIELD.powerLimit, key: 'power.limit', divisor: MILLI },
	{ field: FIELD.throttlePower, key: 'throttled.power', divisor: NANO },
	{ field: FIELD.throttleSyncBoost, key: 'throttled.sync_boost', divisor: NANO },
	{ field: FIELD.throttleSwThermal, key: 'throttled.sw_thermal', divisor: NANO },
	{ field: FIELD.throttleHwThermal, key: 'throttled.hw_thermal', divisor: NANO },
	{ field: FIELD.throttlePowerBrake, key: 'throttled.power_brake', divisor: NANO },
	{ field: FIELD.memoryTemperature, key: 'temperature.memory', asInt32: true },
	{ field: FIELD.eccCorrectedVolatile, key: 'ecc.volatile.corrected' },
	{ field: FIELD.eccUncorrectedVolatile, key: 'ecc.volatile.uncorrected' },
	{ field: FIELD.eccCorrectedAggregate, key: 'ecc.aggregate.corrected' },
	{ field: FIELD.eccUncorrectedAggregate, key: 'ecc.aggregate.uncorrected' },
	{ field: FIELD.remappedCorrectable, key: 'remapped.correctable' },
	{ field: FIELD.remappedUncorrectable, key: 'remapped.uncorrectable' },
	{ field: FIELD.remappedPending, key: 'remap.pending' },
	{ field: FIELD.remappedFailure, key: 'remap.failure' },
	{ field: FIELD.pcieReplays, key: 'pcie.replays' },
	{ field: FIELD.pcieTx, key: 'pcie.tx' },
	{ field: FIELD.pcieRx, key: 'pcie.rx' },
	{ field: FIELD.recoveryAction, key: 'recovery_action' },
] as const;

const batches = {
	4: new FieldBatch([
		...COMMON,
		{ field: FIELD.nvlinkDataTx, scope: SCOPE_ALL_LINKS, key: 'nvlink.tx', factor: KIB },
		{ field: FIELD.nvlinkDataRx, scope: SCOPE_ALL_LINKS, key: 'nvlink.rx', factor: KIB },
	]),
	5: new FieldBatch([
		...COMMON,
		{ field: FIELD.nvlink5Tx, scope: SCOPE_ALL_LINKS, key: 'nvlink.tx' },
		{ field: FIELD.nvlink5Rx, scope: SCOPE_ALL_LINKS, key: 'nvlink.rx' },
	]),
};

/** Throws GpuGone. */
export function readGpuValues(reader: Reader, gpu: Gpu): Row {
	const row = new Row(POSITIONS);
	const { handle } = gpu;
	const set = (key: string, value: number) => row.set(key, value);
	row.set('nvml.status', 0);
	batches[gpu.nvlinkGeneration].read(reader.nvml, handle, set);
	readLoad(reader, handle, row);
	readMemory(reader, handle, row);
	row.set('power.usage', reader.u32('nvmlDeviceGetPowerUsage', handle) / MILLI);
	row.set('energy', reader.u64('nvmlDeviceGetTotalEnergyConsumption', handle) / MILLI);
	for (const [index, clock] of ['graphics', 'sm', 'memory', 'video'].entries())
		row.set(`clock.${clock}`, reader.u32('nvmlDeviceGetClockInfo', handle, index) * MHZ);
	row.set('performance_state', reader.u32('nvmlDeviceGetPerformanceState', handle));
	row.set('throttle.reasons', readThrottleReasons(reader, handle));
	row.set('temperature.gpu', readTemperature(reader, handle));
	if (reader.call('nvmlDeviceGetMarginTemperature', handle, margin))
		row.set('temperature.margin', margin.readInt32LE(LAYOUT.nvmlMarginTemperature_v1_t.offsets.marginTemperature));
	row.set('nvlink.active', countActiveLinks(reader, gpu));
	row.set('pcie.generation', reader.u32('nvmlDeviceGetCurrPcieLinkGeneration', handle));
	row.set('pcie.width', reader.u32('nvmlDeviceGetCurrPcieLinkWidth', handle));
	row.set('processes.compute', reader.processes('nvmlDeviceGetComputeRunningProcesses_v3', handle));
	gpu.gpm?.read(reader, handle, undefined, set);
	return row;
}

export function goneRow(code: number): Row {
	const row = new Row(POSITIONS);
	row.set('nvml.status', code);
	return row;
}

function readLoad(reader: Reader, handle: number, row: Row): void {
	const { gpu, memory: copies } = LAYOUT.nvmlUtilization_t.offsets;
	if (reader.call('nvmlDeviceGetUtilizationRates', handle, utilisation)) {
		row.set('utilisation.gpu', utilisation.readUInt32LE(gpu) / PERCENT);
		row.set('utilisation.memory', utilisation.readUInt32LE(copies) / PERCENT);
	}
	row.set('utilisation.encoder', reader.pair('nvmlDeviceGetEncoderUtilization', handle)[0] / PERCENT);
	row.set('utilisation.decoder', reader.pair('nvmlDeviceGetDecoderUtilization', handle)[0] / PERCENT);
}

function readMemory(reader: Reader, handle: number, row: Row): void {
	if (reader.call('nvmlDeviceGetMemoryInfo_v2', handle, memory)) {
		const { offsets } = LAYOUT.nvmlMemory_v2_t;
		for (const part of ['used', 'free', 'reserved'] as const)
			row.set(`memory.${part}`, Number(memory.readBigUInt64LE(offsets[part])));
	} else if (reader.call('nvmlDeviceGetMemoryInfo', handle, formerMemory)) {
		// Before driver 510: what is reserved is within what is used.
		const { offsets } = LAYOUT.nvmlMemory_t;
		for (const part of ['used', 'free'] as const)
			row.set(`memory.${part}`, Number(formerMemory.readBigUInt64LE(offsets[part])));
	}
}

/** The function of CUDA 12.9 and newer, else the one that it replaces. */
function readTemperature(reader: Reader, handle: number): number {
	if (!reader.nvml.has('nvmlDeviceGetTemperatureV')) return reader.u32('nvmlDeviceGetTemperature', handle, 0);
	const { temperature: at } = LAYOUT.nvmlTemperature_v1_t.offsets;
	return reader.call('nvmlDeviceGetTemperatureV', handle, temperature) ? temperature.readInt32LE(at) : Number.NaN;
}

/** Renamed with driver 535.54. */
function readThrottleReasons(reader: Reader, handle: number): number {
	const name = reader.nvml.has('nvmlDeviceGetCurrentClocksEventReasons')
		? 'nvmlDeviceGetCurrentClocksEventReasons'
		: 'nvmlDeviceGetCurrentClocksThrottleReasons';
	return reader.u64(name, handle);
}

/**
 * One call for all links where the driver has the field, else one for each. A link that doesn't answer isn't one that is
 * down: then the number is not known.
 */
function countActiveLinks(reader: Reader, { handle, nvlinks }: Gpu): number {
	if (nvlinks === 0) return Number.NaN;
	let active = 0;
	let answered = 0;
	linkStates(nvlinks).read(reader.nvml, handle, (_, state) => {
		answered += 1;
		active += state;
	});
	if (answered === nvlinks) return active;
	active = 0;
	for (let link = 0; link < nvlinks; link += 1) {
		const state = reader.u32('nvmlDeviceGetNvLinkState', handle, link);
		if (Number.isNaN(state)) return Number.NaN;
		if (state === 1) active += 1;
	}
	return active;
}

const states = new Map<number, FieldBatch>();

function linkStates(nvlinks: number): FieldBatch {
	const known = states.get(nvlinks);
	if (known !== undefined) return known;
	const requests = Array.from({ length: nvlinks }, (_, scope) => ({ field: FIELD.nvlinkState, scope, key: 'state' }));
	const batch = new FieldBatch(requests);
	states.set(nvlinks, batch);
	return batch;
}
