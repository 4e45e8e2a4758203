import { type Clock, yieldTurn } from '../../../kit/clock.ts';
import type { HistoryAnswer, HistorySeries } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { TelemetryMetric } from '../../../proto/telemetry-schema/metric.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { Custody } from '../../store/port/nodes.ts';
import type { RollupChunk } from '../../store/port/rollups.ts';
import type { CallerView } from './caller-view.ts';
import { type Chunk, decodeChunk, MINUTE_MS } from './chunk.ts';
import { HistorySteps, stepOf } from './history-steps.ts';
import { ROLLUP_METRICS, ROLLUP_PARTS, type RollupMetric } from './rollup-metrics.ts';
import type { Telemetry } from './telemetry.ts';
import { hasOwnHistory } from './tenant-xid.ts';

/**
 * What a node measured, merged from the agent's ring (three hours, each sample) and the rollups here (days, minutes): the
 * ring where it has something, minutes before that. Where the agent doesn't answer, minutes to the newest. Every point is
 * shown only if the caller may see that thing at that moment.
 */
export interface HistoryQuestion {
	readonly nodeId: string;
	readonly part: TelemetryPart;
	/** Empty: all things of that part. */
	readonly id: string;
	readonly metrics: readonly TelemetryMetric[];
	readonly fromMs: number;
	readonly untilMs: number;
	readonly pointsMax: number;
	readonly nowMs: number;
}

export interface HistoryFound {
	readonly stepMs: number;
	readonly series: readonly FoundSeries[];
	readonly simulated: boolean;
	readonly custodies: readonly Custody[];
	/** On our wall clock; undefined: the ring did not answer. */
	readonly ringFromMs: number | undefined;
}

export interface FoundSeries {
	readonly id: string;
	readonly index: number;
	readonly metric: TelemetryMetric;
	readonly steps: HistorySteps;
}

/** Rings are asked no further back than they can be: three hours, and what a clock may be off. */
const RING_MS = 3 * 3_600_000 + 600_000;
/** Twice what 31 days of a node have in full chunks. */
const CHUNKS_MAX = 10_000;
/** Read at once: a few hundred chunks, which is a few ms. */
const WINDOW_MS = 86_400_000;
/** Decoded at once: some ms, in which nothing else of this replica runs. */
const CHUNKS_PER_TURN = 100;
const RING_POINTS_MAX = 4096;
/** What one answer holds: 8 GPUs x 8 metrics, or 64 links. */
const SERIES_MAX = 256;
/** A rate over a longer gap says nothing. */
const RATE_GAP_MS_MAX = 90_000;

/** Throws TELEMETRY_HISTORY_LIMIT where too many are looked for already. */
export async function findHistory(
	clock: Clock,
	telemetry: Pick<Telemetry, 'historyQueries' | 'latest' | 'rings' | 'rollups' | 'writer'>,
	question: HistoryQuestion,
	view: CallerView,
): Promise<HistoryFound> {
	using _slot = telemetry.historyQueries.enter();
	const search = new Search(question, view);
	for (const { answer, offsetMs } of await askRing(telemetry, question)) search.takeRing(answer, offsetMs);
	await search.takeRollups(clock, telemetry);
	return search.found();
}

async function askRing(
	telemetry: Pick<Telemetry, 'latest' | 'rings'>,
	{ nodeId, part, id, metrics, fromMs, untilMs, nowMs }: HistoryQuestion,
) {
	if (untilMs < nowMs - RING_MS) return [];
	const sample = telemetry.latest.get(nodeId);
	// The ring's times are the agent's; what its newest sample said tells how far that clock is off.
	const offsetMs = sample === undefined ? 0 : sample.receivedAtMs - sample.takenAtMs;
	const tables: readonly TelemetryPart[] = part === 'gpu' ? ['gpu', 'gpuSlow'] : [part];
	const asked = tables.map(async (table) => {
		const keys = metrics.filter((metric) => CURRENT_SCHEMA[table].includes(metric)).map(({ key }) => key);
		if (keys.length === 0) return undefined;
		const span = { fromMs: Math.max(fromMs, nowMs - RING_MS) - offsetMs, untilMs: untilMs - offsetMs };
		return await telemetry.rings.ask(nodeId, { part: table, id, keys, ...span, pointsMax: RING_POINTS_MAX });
	});
	const answers = await Promise.all(asked);
	return answers.flatMap((answer) => (answer === undefined || answer.refusal !== '' ? [] : [{ answer, offsetMs }]));
}

class Search {
	readonly #question: HistoryQuestion;
	readonly #view: CallerView;
	readonly #stepMs: number;
	readonly #series = new Map<string, FoundSeries>();
	readonly #custodies = new Set<Custody>();
	#simulated = false;
	#ringFromMs: number | undefined;

	constructor(question: HistoryQuestion, view: CallerView) {
		this.#question = question;
		this.#view = view;
		const { fromMs, untilMs, pointsMax, nowMs } = question;
		// Minutes are all that there is of longer ago.
		const leastMs = fromMs < nowMs - RING_MS ? MINUTE_MS : 1000;
		this.#stepMs = stepOf(untilMs - fromMs, pointsMax, leastMs);
	}

	takeRing(answer: HistoryAnswer, offsetMs: number): void {
		let oldestMs = Number.POSITIVE_INFINITY;
		for (const series of answer.series) {
			const metric = this.#question.metrics.find(({ key }) => key === series.key);
			if (metric === undefined) continue;
			for (const { atMs, value, overMs } of valuesOf(series, metric)) {
				const ourMs = atMs + offsetMs;
				if (ourMs < oldestMs) oldestMs = ourMs;
				// A rate is of the time before it.
				if (!this.#view.sees(this.#question.part, series.id, ourMs - overMs, overMs)) continue;
				this.#add(series.id, series.index, metric, ourMs, value, value);
			}
		}
		if (oldestMs === Number.POSITIVE_INFINITY) return;
		this.#ringFromMs = Math.min(oldestMs, this.#ringFromMs ?? oldestMs);
		this.#simulated ||= answer.simulated;
	}

	async takeRollups(clock: Clock, { rollups, writer }: Pick<Telemetry, 'rollups' | 'writer'>): Promise<void> {
		const { nodeId, part, fromMs, untilMs } = this.#question;
		const kept = ROLLUP_METRICS.filter((metric) => metric.part === part && this.#metricOf(metric) !== undefined);
		const rollupUntilMs = Math.min(untilMs, this.#ringFromMs ?? untilMs);
		if (kept.length === 0 || rollupUntilMs <= fromMs || !ROLLUP_PARTS.includes(part)) return;
		const take = async (chunks: readonly (RollupChunk | Chunk)[]) => {
			for (const [number, chunk] of chunks.entries()) {
				if (number % CHUNKS_PER_TURN === 0) await yieldTurn(clock);
				const decoded = 'blob' in chunk ? decodeChunk(chunk.fromMs, chunk.blob) : chunk;
				if (decoded !== undefined) this.#takeChunk(decoded, kept, rollupUntilMs);
			}
		};
		let left = CHUNKS_MAX;
		for (let at = fromMs; rollups !== undefined && left > 0 && at < rollupUntilMs; at += WINDOW_MS) {
			const touching = await rollups.read(nodeId, at, Math.min(at + WINDOW_MS, rollupUntilMs), left);
			// One that reaches over the edge of two windows was taken with the earlier.
			const chunks = at === fromMs ? touching : touching.filter((chunk) => chunk.fromMs >= at);
			left -= chunks.length;
			await take(chunks);
		}
		await take(writer?.unwritten(nodeId) ?? []);
	}

	found(): HistoryFound {
		const series = [...this.#series.values()].filter(({ steps }) => !steps.isEmpty);
		return {
			stepMs: this.#stepMs,
			series,
			simulated: this.#simulated,
			custodies: [...this.#custodies],
			ringFromMs: this.#ringFromMs,
		};
	}

	#metricOf({ key }: RollupMetric): TelemetryMetric | undefined {
		return this.#question.metrics.find((metric) => metric.key === key);
	}

	#takeChunk(chunk: Chunk, kept: readonly RollupMetric[], untilMs: number): void {
		const { part, id } = this.#question;
		const { fromMs, minutes, series, values } = chunk;
		for (const [number, { subject, metric: metricId }] of series.entries()) {
			const rollup = kept.find((metric) => metric.id === metricId);
			const subjectId = part === 'host' ? '' : subject.slice(part.length + 1);
			const isAsked =
				part === 'host' ? subject === '' : subject.startsWith(`${part}/`) && (id === '' || id === subjectId);
			const metric = rollup && this.#metricOf(rollup);
			if (metric === undefined || !isAsked) continue;
			for (let minute = 0; minute < minutes; minute += 1) {
				const atMs = fromMs + minute * MINUTE_MS;
				// A minute that the ring has in part is the ring's.
				if (atMs + MINUTE_MS > untilMs && untilMs === this.#ringFromMs) continue;
				// A minute that is another's in part would tell about them.
				if (!this.#view.sees(part, subjectId, atMs, MINUTE_MS)) continue;
				const at = number * 2 * minutes + minute;
				const taken = this.#add(subjectId, 0, metric, atMs, values[at] as number, values[at + minutes] as number);
				if (taken) this.#custodies.add(chunk.custody);
				if (taken) this.#simulated ||= chunk.simulated;
			}
		}
	}

	/** What the caller may see. */
	#add(id: string, index: number, metric: TelemetryMetric, atMs: number, average: number, maximum: number): boolean {
		const { fromMs, untilMs } = this.#question;
		if (Number.isNaN(average) || atMs < fromMs || atMs >= untilMs) return false;
		if (!hasOwnHistory(metric.key, this.#view)) return false;
		const key = `${metric.key} ${index} ${id}`;
		let series = this.#series.get(key);
		if (series === undefined) {
			if (this.#series.size >= SERIES_MAX) return false;
			series = { id, index, metric, steps: new HistorySteps(fromMs, untilMs, this.#stepMs) };
			this.#series.set(key, series);
		}
		series.steps.add(atMs, average, maximum);
		return true;
	}
}

/** Of a counter its rate a second over the `overMs` before, except where it was reset or silent. */
function* valuesOf({ atMs, values }: HistorySeries, { type }: TelemetryMetric) {
	let before: { readonly atMs: number; readonly value: number } | undefined;
	for (const [index, at] of atMs.entries()) {
		const now = { atMs: Number(at), value: values[index] ?? Number.NaN };
		if (Number.isNaN(now.value)) continue;
		if (type === 'gauge') yield { ...now, overMs: 0 };
		else if (before !== undefined && now.value >= before.value) {
			const elapsedMs = now.atMs - before.atMs;
			if (elapsedMs > 0 && elapsedMs <= RATE_GAP_MS_MAX)
				yield { atMs: now.atMs, value: ((now.value - before.value) * 1000) / elapsedMs, overMs: elapsedMs };
		}
		before = now;
	}
}

/** The metric of a key in the tables of a part, of a GPU also in those that are measured less often. */
export function findMetric(part: string, key: string): TelemetryMetric | undefined {
	const parts: TelemetryPart[] = part === 'gpu' ? ['gpu', 'gpuSlow'] : [part as TelemetryPart];
	for (const one of parts) {
		const metric = CURRENT_SCHEMA[one]?.find((candidate) => candidate.key === key);
		if (metric !== undefined) return metric;
	}
	return undefined;
}
