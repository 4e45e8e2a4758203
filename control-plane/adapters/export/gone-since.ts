import type { NodeEntry } from '../../app/telemetry/directory.ts';
import { familiesOf } from '../../app/telemetry/families.ts';
import { dcgmLabels, dcgmValueLabels, type Labels, ownLabels } from '../../app/telemetry/labels.ts';
import { type NodeSample, PARTS, type Row } from '../../app/telemetry/sample.ts';
import type { SeriesOptions } from '../../app/telemetry/series.ts';
import type { XidSeries } from '../../app/telemetry/xid-series.ts';

/** A sample as it was sent: its labels come from what its node was known as then. */
export interface Sent {
	readonly entry: NodeEntry | undefined;
	readonly sample: NodeSample;
	/** Labels of the target: on every series. */
	readonly target: Labels;
	/** What is counted here beside it. */
	readonly xids: readonly XidSeries[];
}

type Part = (typeof PARTS)[number];

/**
 * Of what was sent last, the values whose series may end with what is sent now: the value is absent, or something in the
 * labels of its series is another now. Undefined when there is none. May name series that go on, as those under our own
 * names when only dcgm-exporter's labels changed: so a marker that a series is gone goes before its next sample.
 */
export function goneSince(before: Sent, now: Sent, options: SeriesOptions): Sent | undefined {
	const sample = goneSample(before, now, options);
	const isSameTarget = textOf(before.target) === textOf(now.target);
	const going = new Set(isSameTarget ? now.xids.map(({ labels }) => textOf(labels)) : []);
	const xids = before.xids.filter(({ labels }) => !going.has(textOf(labels)));
	if (sample === undefined && xids.length === 0) return undefined;
	return { ...before, xids, sample: sample ?? withoutRows(before.sample) };
}

function withoutRows(sample: NodeSample): NodeSample {
	const rows = Object.fromEntries(PARTS.map((part) => [part, []])) as unknown as NodeSample['rows'];
	return { ...sample, rows };
}

function goneSample(before: Sent, now: Sent, options: SeriesOptions): NodeSample | undefined {
	if (before.sample.schema !== now.sample.schema || textOf(before.target) !== textOf(now.target)) return before.sample;
	const mayMove = before.entry !== now.entry || before.sample.simulated !== now.sample.simulated;
	let isAnything = false;
	const rows = {} as Record<Part, Row[]>;
	for (const part of PARTS) {
		const present = new Map(now.sample.rows[part].map((row) => [`${row.index}/${row.id}`, row]));
		const byValue = options.names.has('dcgm') ? labelledByValue(before.sample.schema, part) : NONE;
		rows[part] = [];
		for (const row of before.sample.rows[part]) {
			const after = present.get(`${row.index}/${row.id}`);
			const moved =
				after === undefined ||
				(mayMove && labelsOf(before, part, row, options) !== labelsOf(now, part, after, options));
			const values = goneValues(row.values, moved ? undefined : after.values, byValue);
			if (values === undefined) continue;
			isAnything = true;
			rows[part].push({ id: row.id, index: row.index, values });
		}
	}
	return isAnything ? { ...before.sample, rows } : undefined;
}

/** NaN where nothing is gone; undefined when nothing is anywhere. */
function goneValues(
	before: Float64Array,
	after: Float64Array | undefined,
	byValue: ReadonlySet<number>,
): Float64Array | undefined {
	let gone: Float64Array | undefined;
	for (let index = 0; index < before.length; index += 1) {
		const value = before[index] as number;
		if (Number.isNaN(value)) continue;
		const next = after?.[index] ?? Number.NaN;
		if (!Number.isNaN(next) && (next === value || !byValue.has(index))) continue;
		gone ??= new Float64Array(before.length).fill(Number.NaN);
		gone[index] = value;
	}
	return gone;
}

function labelsOf({ entry, sample }: Sent, part: Part, row: Row, { names, hostnameLabel }: SeriesOptions): string {
	const own = names.has('gpuaas') ? textOf(ownLabels(entry, sample, part, row)) : '';
	const dcgm = names.has('dcgm') ? textOf(dcgmLabels(entry, sample, part, row, hostnameLabel)) : '';
	return `${own} ${dcgm}`;
}

function textOf(labels: Labels | undefined): string {
	return JSON.stringify(labels) ?? '';
}

const NONE: ReadonlySet<number> = new Set();
const BY_VALUE = new Map<string, ReadonlySet<number>>();

/** Positions whose series have their value in a label. */
function labelledByValue(schema: number, part: Part): ReadonlySet<number> {
	const key = `${schema}/${part}`;
	let positions = BY_VALUE.get(key);
	if (positions === undefined) {
		const families = familiesOf(schema).filter(({ name }) => dcgmValueLabels(name, 0).length > 0);
		const all = families.flatMap((family) => family.positions.filter((position) => position.part === part));
		positions = new Set(all.map(({ index }) => index));
		BY_VALUE.set(key, positions);
	}
	return positions;
}
