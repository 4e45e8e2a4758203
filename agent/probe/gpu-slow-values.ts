import { GPU_SLOW_VALUES } from '../../proto/telemetry-schema/gpu-slow.ts';
import { readFabric } from './fabric.ts';
import { FieldBatch, type FieldRequest } from './field-batch.ts';
import { FIELD, SCOPE_MODULE } from './fields.ts';
import type { Gpu } from './gpu.ts';
import { LAYOUT } from './layout.ts';
import { allocate } from './library.ts';
import type { LinkErrors } from './nvlink-values.ts';
import type { Reader } from './reader.ts';
import { positionsOf, Row } from './row.ts';

/** The slow values of one GPU: limits, modes, error details. */
const MILLI = 1000;
const MHZ = 1e6;
const PERCENT = 100;

const POSITIONS = positionsOf(GPU_SLOW_VALUES);
const memory = allocate('nvmlMemory_v2_t');
const formerMemory = allocate('nvmlMemory_t');
const bar1 = allocate('nvmlBAR1Memory_t');
const sram = allocate('nvmlEccSramErrorStatus_v1_t');
const histogram = allocate('nvmlRowRemapperHistogramValues_t');
const repair = allocate('nvmlRepairStatus_v1_t');
const unrepairable = allocate('nvmlUnrepairableMemoryStatus_v1_t');
const confidential = allocate('nvmlConfComputeSystemState_t');
const ready = Buffer.alloc(4);

const PCIE_ERRORS = GPU_SLOW_VALUES.filter(({ name }) => name === 'gpuaas_gpu_pcie_errors_total');

const COMMON: readonly FieldRequest[] = [
	{ field: FIELD.powerDefault, key: 'power.default', divisor: MILLI },
	{ field: FIELD.powerMin, key: 'power.min', divisor: MILLI },
	{ field: FIELD.powerMax, key: 'power.max', divisor: MILLI },
	{ field: FIELD.powerInstant, scope: SCOPE_MODULE, key: 'power.module', divisor: MILLI },
	{ field: FIELD.marginShutdown, key: 'temperature.shutdown', asInt32: true },
	{ field: FIELD.marginSlowdown, key: 'temperature.slowdown', asInt32: true },
	{ field: FIELD.marginMemoryMax, key: 'temperature.memory_max', asInt32: true },
	{ field: FIELD.marginGpuMax, key: 'temperature.gpu_max', asInt32: true },
	{ field: FIELD.eccCurrent, key: 'ecc.enabled' },
	{ field: FIELD.eccPending, key: 'ecc.pending' },
	{ field: FIELD.dramCorrectedAggregate, key: 'dram.corrected' },
	{ field: FIELD.dramUncorrectedAggregate, key: 'dram.uncorrected' },
	{ field: FIELD.remapInactiveCorrectable, key: 'remap.inactive.correctable' },
	{ field: FIELD.remapInactiveUncorrectable, key: 'remap.inactive.uncorrectable' },
	{ field: FIELD.retiredSingleBit, key: 'retired.single_bit' },
	{ field: FIELD.retiredDoubleBit, key: 'retired.double_bit' },
	{ field: FIELD.retiredPending, key: 'retired.pending' },
	...PCIE_ERRORS.map(({ key }, index) => ({ field: FIELD.pcieErrors + index, key })),
];

const batch = new FieldBatch(COMMON);

/** Throws GpuGone. */
export function readGpuSlowValues(reader: Reader, gpu: Gpu, links: readonly LinkErrors[]): Row {
	const row = new Row(POSITIONS);
	const { handle } = gpu;
	const set = (key: string, value: number) => row.set(key, value);
	batch.read(reader.nvml, handle, set);
	readSizes(reader, handle, row);
	row.set('utilisation.jpeg', reader.pair('nvmlDeviceGetJpgUtilization', handle)[0] / PERCENT);
	row.set('utilisation.ofa', reader.pair('nvmlDeviceGetOfaUtilization', handle)[0] / PERCENT);
	for (const [index, clock] of ['graphics', 'sm', 'memory', 'video'].entries())
		row.set(`clock.${clock}.max`, reader.u32('nvmlDeviceGetMaxClockInfo', handle, index) * MHZ);
	readErrors(reader, handle, row);
	row.set('nvlink.links', gpu.nvlinks === 0 ? Number.NaN : gpu.nvlinks);
	row.set('nvlink.replays', sum(links.map(({ replay }) => replay)));
	row.set('nvlink.recoveries', sum(links.map(({ recovery }) => recovery)));
	row.set('nvlink.crc_errors', sum(links.map(({ crc }) => crc)));
	row.set('pcie.generation.max', reader.u32('nvmlDeviceGetMaxPcieLinkGeneration', handle));
	row.set('pcie.width.max', reader.u32('nvmlDeviceGetMaxPcieLinkWidth', handle));
	const [mig, migPending] = reader.pair('nvmlDeviceGetMigMode', handle);
	row.set('mig.enabled', mig);
	row.set('mig.pending', migPending);
	row.set('mig.slices', mig === 1 ? gpu.slices.length : Number.NaN);
	row.set('persistence', reader.u32('nvmlDeviceGetPersistenceMode', handle));
	row.set('compute_mode', reader.u32('nvmlDeviceGetComputeMode', handle));
	row.set('processes.graphics', reader.processes('nvmlDeviceGetGraphicsRunningProcesses_v3', handle));
	row.set('processes.mps', reader.processes('nvmlDeviceGetMPSComputeRunningProcesses_v3', handle));
	readFabric(reader, handle, set);
	readConfidential(reader, row);
	return row;
}

/** Absent when no link has it. */
function sum(values: readonly number[]): number {
	const there = values.filter((value) => !Number.isNaN(value));
	return there.length === 0 ? Number.NaN : there.reduce((total, value) => total + value, 0);
}

function readSizes(reader: Reader, handle: number, row: Row): void {
	if (reader.call('nvmlDeviceGetMemoryInfo_v2', handle, memory))
		row.set('memory.total', Number(memory.readBigUInt64LE(LAYOUT.nvmlMemory_v2_t.offsets.total)));
	else if (reader.call('nvmlDeviceGetMemoryInfo', handle, formerMemory))
		row.set('memory.total', Number(formerMemory.readBigUInt64LE(LAYOUT.nvmlMemory_t.offsets.total)));
	const { bar1Total, bar1Used } = LAYOUT.nvmlBAR1Memory_t.offsets;
	if (!reader.call('nvmlDeviceGetBAR1MemoryInfo', handle, bar1)) return;
	row.set('bar1.total', Number(bar1.readBigUInt64LE(bar1Total)));
	row.set('bar1.used', Number(bar1.readBigUInt64LE(bar1Used)));
}

function readErrors(reader: Reader, handle: number, row: Row): void {
	const at = LAYOUT.nvmlEccSramErrorStatus_v1_t.offsets;
	if (reader.call('nvmlDeviceGetSramEccErrorStatus', handle, sram)) {
		row.set('sram.corrected', Number(sram.readBigUInt64LE(at.aggregateCor)));
		row.set('sram.parity', Number(sram.readBigUInt64LE(at.aggregateUncParity)));
		row.set('sram.secded', Number(sram.readBigUInt64LE(at.aggregateUncSecDed)));
		row.set('sram.threshold', sram.readUInt32LE(at.bThresholdExceeded));
	}
	if (reader.call('nvmlDeviceGetRowRemapperHistogram', handle, histogram))
		for (const [level, offset] of Object.entries(LAYOUT.nvmlRowRemapperHistogramValues_t.offsets))
			row.set(`remap.banks.${level}`, histogram.readUInt32LE(offset));
	if (reader.call('nvmlDeviceGetRepairStatus', handle, repair)) {
		const { bChannelRepairPending, bTpcRepairPending } = LAYOUT.nvmlRepairStatus_v1_t.offsets;
		row.set('repair.channel_pending', repair.readUInt32LE(bChannelRepairPending));
		row.set('repair.tpc_pending', repair.readUInt32LE(bTpcRepairPending));
	}
	if (reader.call('nvmlDeviceGetUnrepairableMemoryFlag_v1', handle, unrepairable))
		row.set('memory.unrepairable', unrepairable.readUInt32LE(0));
}

function readConfidential(reader: Reader, row: Row): void {
	const { ccFeature, devToolsMode } = LAYOUT.nvmlConfComputeSystemState_t.offsets;
	if (!reader.call('nvmlSystemGetConfComputeState', confidential)) return;
	row.set('confidential.enabled', confidential.readUInt32LE(ccFeature));
	row.set('confidential.devtools', confidential.readUInt32LE(devToolsMode));
	if (reader.call('nvmlSystemGetConfComputeGpusReadyState', ready))
		row.set('confidential.ready', ready.readUInt32LE(0));
}
