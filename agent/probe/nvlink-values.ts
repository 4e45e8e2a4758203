import { NVLINK_VALUES } from '../../proto/telemetry-schema/links.ts';
import { bitErrorRate, FieldBatch, type FieldRequest } from './field-batch.ts';
import { FIELD } from './fields.ts';
import type { Gpu } from './gpu.ts';
import type { Reader } from './reader.ts';
import { positionsOf, Row } from './row.ts';

/** One NVLink of a GPU: state, traffic, errors. NVLink 5 has other counters than the ones before it. */
const MEGABYTE = 1e6;
const KIB = 1024;
const POSITIONS = positionsOf(NVLINK_VALUES);
const FEC_BINS = 8;

const ERRORS_5 = [
	'malformed',
	'buffer_overrun',
	'receive',
	'receive_remote',
	'receive_general',
	'local_integrity',
	'transmit_discard',
];

const COMMON: readonly FieldRequest[] = [
	{ field: FIELD.nvlinkState, key: 'up' },
	{ field: FIELD.nvlinkVersion, key: 'version' },
	{ field: FIELD.nvlinkSpeed, key: 'speed', factor: MEGABYTE },
];

const requests: Readonly<Record<4 | 5, readonly FieldRequest[]>> = {
	4: [
		...COMMON,
		{ field: FIELD.nvlinkDataTx, key: 'tx', factor: KIB },
		{ field: FIELD.nvlinkDataRx, key: 'rx', factor: KIB },
		{ field: FIELD.nvlinkReplay, key: 'errors.replay' },
		{ field: FIELD.nvlinkRecovery, key: 'errors.recovery' },
		{ field: FIELD.nvlinkCrc, key: 'errors.crc' },
	],
	5: [
		...COMMON,
		{ field: FIELD.nvlink5Tx, key: 'tx' },
		{ field: FIELD.nvlink5Rx, key: 'rx' },
		...ERRORS_5.map((kind, index) => ({ field: FIELD.nvlink5Errors + index, key: `errors.${kind}` })),
		{ field: FIELD.nvlink5RecoverySucceeded, key: 'errors.recovery_succeeded' },
		{ field: FIELD.nvlink5RecoveryFailed, key: 'errors.recovery_failed' },
		{ field: FIELD.nvlink5Recoveries, key: 'errors.recovery' },
		{ field: FIELD.nvlink5EffectiveErrors, key: 'errors.effective' },
		{ field: FIELD.nvlink5SymbolErrors, key: 'errors.symbol' },
		{ field: FIELD.nvlink5EffectiveBer, key: 'ber.effective', convert: bitErrorRate },
		{ field: FIELD.nvlink5SymbolBer, key: 'ber.symbol', convert: bitErrorRate },
		...Array.from({ length: FEC_BINS }, (_, bin) => ({ field: FIELD.nvlink5FecHigh + bin, key: 'fec.high' })),
	],
};

/** The fields of a link are asked with its number as scope, so there is a batch for each number. */
const batches = new Map<string, FieldBatch>();

function batchOf(generation: 4 | 5, link: number): FieldBatch {
	const name = `${generation}/${link}`;
	const known = batches.get(name);
	if (known !== undefined) return known;
	const batch = new FieldBatch(requests[generation].map((request) => ({ ...request, scope: link })));
	batches.set(name, batch);
	return batch;
}

export interface LinkErrors {
	readonly replay: number;
	readonly recovery: number;
	readonly crc: number;
}

/** Throws GpuGone. */
export function readNvlinkValues(
	reader: Reader,
	gpu: Gpu,
	link: number,
): { readonly row: Row; readonly errors: LinkErrors } {
	const row = new Row(POSITIONS);
	let fecHigh = Number.NaN;
	const errors = { replay: Number.NaN, recovery: Number.NaN, crc: Number.NaN };
	let isStateKnown = false;
	batchOf(gpu.nvlinkGeneration, link).read(reader.nvml, gpu.handle, (key, value) => {
		if (key === 'fec.high') {
			fecHigh = Number.isNaN(fecHigh) ? value : fecHigh + value;
			return;
		}
		isStateKnown ||= key === 'up';
		const error = /^errors\.(replay|recovery|crc)$/.exec(key)?.[1];
		if (error !== undefined) errors[error as keyof LinkErrors] = value;
		row.set(key, value);
	});
	row.set('fec.high', fecHigh);
	// Fields 165 and 166 are newer than the links.
	if (!isStateKnown) {
		row.set('up', reader.u32('nvmlDeviceGetNvLinkState', gpu.handle, link));
		row.set('version', reader.u32('nvmlDeviceGetNvLinkVersion', gpu.handle, link));
	}
	return { row, errors };
}
