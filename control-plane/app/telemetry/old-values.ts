import { hasAges, laterBy, withoutOld } from '../../../proto/telemetry-schema/age.ts';
import { schemaOf, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import { type NodeSample, PARTS, type Row } from './sample.ts';

/**
 * A sample as it may be exported: without values that were read too long ago to stand for now, whatever their frame's age
 * (what a disk said of itself an hour ago). Their series end as that of any value that is gone: pages lack them, so that a
 * scrape leaves a stale marker, and pushes send one. The same object where nothing is too old.
 */
export function exportedSample(sample: NodeSample): NodeSample {
	const schema = schemaOf(sample.schema);
	let rows: Record<TelemetryPart, readonly Row[]> | undefined;
	for (const part of PARTS) {
		const table = schema?.[part] ?? [];
		if (!hasAges(table)) continue;
		const kept = sample.rows[part].map((row) => withValues(row, withoutOld(table, row.values)));
		if (kept.every((row, index) => row === sample.rows[part][index])) continue;
		rows ??= { ...sample.rows };
		rows[part] = kept;
	}
	return rows === undefined ? sample : { ...sample, rows };
}

/** Rows of a frame that a later one stands for too: what says how old it is says so then. */
export function carriedRows(
	schema: number,
	part: TelemetryPart,
	rows: readonly Row[],
	laterMs: number,
): readonly Row[] {
	const table = schemaOf(schema)?.[part] ?? [];
	if (!hasAges(table)) return rows;
	return rows.map((row) => withValues(row, laterBy(table, row.values, laterMs / 1000)));
}

function withValues(row: Row, values: Float64Array): Row {
	return values === row.values ? row : { ...row, values };
}
