import { create } from '@bufbuild/protobuf';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import {
	type HistoryAnswer,
	HistoryAnswerSchema,
	type HistoryQuery,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA, SCHEMA_NUMBER, type TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import type { Block, TelemetryRing } from './ring.ts';

/** Answers what the control plane asks of the ring. Bounded: series and points, so that an answer is one small message. */
/** Those of 8 GPUs with 18 links each fit. */
const SERIES_MAX = 192;
const POINTS_DEFAULT = 720;
const POINTS_MAX = 4096;
/** Over all series: about 0.7 MB, and a few milliseconds of the agent's event loop. 64 series of 3 h at 15 s. */
const POINTS_TOTAL_MAX = 50_000;

interface Series {
	readonly id: string;
	readonly index: number;
	readonly key: string;
	readonly atMs: bigint[];
	readonly values: number[];
}

export function answerHistory(ring: TelemetryRing, query: HistoryQuery, isSimulated: boolean): HistoryAnswer {
	const refuse = (refusal: string) =>
		create(HistoryAnswerSchema, { queryId: query.queryId, schema: SCHEMA_NUMBER, refusal });
	if (!Object.hasOwn(CURRENT_SCHEMA, query.part))
		return refuse(`there is no part ${JSON.stringify(query.part.slice(0, 32))}`);
	const part = query.part as TelemetryPart;
	const positions = query.keys.map((key) => CURRENT_SCHEMA[part].findIndex((metric) => metric.key === key));
	const unknown = query.keys.find((_, at) => positions[at] === -1);
	if (unknown !== undefined) return refuse(`${part} has no ${JSON.stringify(unknown.slice(0, 64))}`);
	const found = collect(ring, query, part, positions);
	if (found.size > SERIES_MAX) return refuse(`these are more than ${SERIES_MAX} series: name one thing, or fewer keys`);
	const wanted = query.pointsMax === 0 ? POINTS_DEFAULT : query.pointsMax;
	const pointsMax = Math.max(1, Math.min(wanted, POINTS_MAX, Math.floor(POINTS_TOTAL_MAX / Math.max(1, found.size))));
	const oldest = ring.oldestAtMs;
	return create(HistoryAnswerSchema, {
		queryId: query.queryId,
		schema: SCHEMA_NUMBER,
		series: [...found.values()].map((series) => thin(series, pointsMax)),
		simulated: isSimulated && part !== 'host',
		...(oldest === undefined ? {} : { oldest: timestampFromMs(oldest) }),
	});
}

function collect(
	ring: TelemetryRing,
	query: HistoryQuery,
	part: TelemetryPart,
	positions: readonly number[],
): ReadonlyMap<string, Series> {
	const fromMs = query.from === undefined ? Number.NEGATIVE_INFINITY : timestampMs(query.from);
	const untilMs = query.until === undefined ? Number.POSITIVE_INFINITY : timestampMs(query.until);
	const isIndexed = part === 'nvlink' || part === 'ibPort';
	const found = new Map<string, Series>();
	let names: Block['names'] | undefined;
	let wanted: readonly Wanted[] = [];
	for (const { atMs, blocks } of ring.moments()) {
		const block = blocks.get(part);
		if (block === undefined || atMs < fromMs || atMs > untilMs) continue;
		// Looked up when the things changed, not for each of a hundred thousand values.
		if (block.names !== names) {
			names = block.names;
			wanted = choose(found, names, query, positions, isIndexed);
			// Refused by the caller: more would only take its time.
			if (found.size > SERIES_MAX) return found;
		}
		const at = BigInt(Math.round(atMs));
		for (const { series, row, position } of wanted) {
			series.atMs.push(at);
			series.values.push(block.values[row * block.width + position] ?? Number.NaN);
		}
	}
	return found;
}

interface Wanted {
	readonly series: Series;
	readonly row: number;
	readonly position: number;
}

function choose(
	found: Map<string, Series>,
	names: Block['names'],
	query: HistoryQuery,
	positions: readonly number[],
	isIndexed: boolean,
): readonly Wanted[] {
	const wanted: Wanted[] = [];
	for (const [row, { id, index }] of names.entries()) {
		if (query.id !== '' && (id !== query.id || (isIndexed && index !== query.index))) continue;
		for (const [number, key] of query.keys.entries()) {
			const series = seriesOf(found, id, isIndexed ? index : 0, key);
			wanted.push({ series, row, position: positions[number] ?? -1 });
		}
	}
	return wanted;
}

function seriesOf(found: Map<string, Series>, id: string, index: number, key: string): Series {
	const name = `${id}/${index}/${key}`;
	const known = found.get(name);
	if (known !== undefined) return known;
	const series = { id, index, key, atMs: [], values: [] };
	found.set(name, series);
	return series;
}

/** The last point of each step; the newest of all stays. */
function thin(series: Series, pointsMax: number): Series {
	const count = series.values.length;
	if (count <= pointsMax) return series;
	const kept = Array.from({ length: pointsMax }, (_, step) => Math.floor(((step + 1) * count) / pointsMax) - 1);
	return {
		...series,
		atMs: kept.map((at) => series.atMs[at] ?? 0n),
		values: kept.map((at) => series.values[at] ?? Number.NaN),
	};
}
