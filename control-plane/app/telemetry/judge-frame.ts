import type { PartSample, TelemetryFrame } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { TelemetryMetric } from '../../../proto/telemetry-schema/metric.ts';
import { schemaOf, type TelemetryPart, type TelemetrySchema } from '../../../proto/telemetry-schema/schemas.ts';
import type { TelemetryLimits } from './limits.ts';
import { INDEXED_PARTS, PARTS, type ProcessRow, type ProcessRows, ROWS_OF, type Row, SLOW_PARTS } from './sample.ts';

/**
 * Whether a frame can be what a host measured. A whole frame is refused where nothing in it can be trusted; a row or a
 * value that is wrong is left out alone, so that one broken sensor doesn't hide a node. Everything that is left out is
 * counted by reason. Pure; hand-written, because every frame of the fleet goes through it.
 */
export type FrameRefusal =
	| 'rate'
	| 'schema_unknown'
	| 'timestamp_missing'
	| 'timestamp_future'
	| 'timestamp_ancient'
	| 'values_length';
export type RowRefusal = 'values_length' | 'id_invalid' | 'id_unknown' | 'duplicate' | 'series_limit';
export type ValueRefusal = 'not_finite' | 'absurd';

export interface JudgedFrame {
	readonly kind: 'accepted';
	readonly takenAtMs: number;
	readonly rows: Readonly<Record<TelemetryPart, readonly Row[]>>;
	readonly processes?: ProcessRows;
	readonly refusedRows: ReadonlyMap<RowRefusal, number>;
	readonly refusedValues: ReadonlyMap<ValueRefusal, number>;
}

export type FrameJudgement = JudgedFrame | { readonly kind: 'refused'; readonly reason: FrameRefusal };

export interface JudgeFrameInput {
	/** Our wall clock. */
	readonly nowMs: number;
	readonly limits: TelemetryLimits;
	/** Whether the node may name this thing. */
	knows(part: TelemetryPart, id: string): boolean;
}

const PROCESSES_MAX = 256;
const BYTES_MAX = 1e15;
/** UUIDs, or none. */
const OWNER = /^[0-9a-f-]{0,64}$/;
/** Printable ASCII: ids become label values and are shown in terminals. */
const ID = /^[\x20-\x7e]{1,96}$/;

export function judgeFrame(frame: TelemetryFrame, input: JudgeFrameInput): FrameJudgement {
	const refused = (reason: FrameRefusal): FrameJudgement => ({ kind: 'refused', reason });
	const schema = schemaOf(frame.schema);
	if (schema === undefined) return refused('schema_unknown');
	if (frame.values.length !== schema.host.length) return refused('values_length');
	if (frame.at === undefined) return refused('timestamp_missing');
	const takenAtMs = Number(frame.at.seconds) * 1000 + frame.at.nanos / 1e6;
	if (takenAtMs > input.nowMs + input.limits.skewMsMax) return refused('timestamp_future');
	if (takenAtMs < input.nowMs - input.limits.skewMsMax) return refused('timestamp_ancient');
	return new Judging(schema, input).all(frame, takenAtMs);
}

function within(value: number | undefined, max: number): number {
	return value !== undefined && value >= 0 && value <= max ? value : Number.NaN;
}

class Judging {
	readonly #schema: TelemetrySchema;
	readonly #input: JudgeFrameInput;
	readonly #refusedRows = new Map<RowRefusal, number>();
	readonly #refusedValues = new Map<ValueRefusal, number>();
	#series = 0;

	constructor(schema: TelemetrySchema, input: JudgeFrameInput) {
		this.#schema = schema;
		this.#input = input;
	}

	all(frame: TelemetryFrame, takenAtMs: number): JudgedFrame {
		const rows = {} as Record<TelemetryPart, readonly Row[]>;
		for (const part of PARTS) rows[part] = this.#part(part, frame);
		const [refusedRows, refusedValues] = [this.#refusedRows, this.#refusedValues];
		return { kind: 'accepted', takenAtMs, rows, ...this.#processes(frame, rows), refusedRows, refusedValues };
	}

	/** Of things that this very frame has values of. */
	#processes(
		frame: TelemetryFrame,
		{ gpu, slice }: Readonly<Record<TelemetryPart, readonly Row[]>>,
	): { readonly processes?: ProcessRows } {
		if (!frame.hasSlow || frame.gpuProcesses.length === 0) return {};
		const things = new Set([...gpu, ...slice].map(({ id }) => id));
		const seen = new Set<string>();
		const processes: ProcessRow[] = [];
		for (const said of frame.gpuProcesses.slice(0, PROCESSES_MAX)) {
			const key = `${said.gpu}/${said.pid}`;
			const isOwned = OWNER.test(said.taskId) && OWNER.test(said.terminalId);
			const refusal = !things.has(said.gpu) ? 'id_unknown' : seen.has(key) ? 'duplicate' : isOwned ? '' : 'id_invalid';
			seen.add(key);
			if (refusal !== '') {
				this.#refusedRows.set(refusal, (this.#refusedRows.get(refusal) ?? 0) + 1);
				continue;
			}
			const { gpu: thing, pid, taskId, terminalId } = said;
			const memoryBytes = within(said.memoryBytes, BYTES_MAX);
			processes.push({
				gpu: thing,
				pid,
				memoryBytes,
				smUtilisation: within(said.smUtilisation, 1),
				taskId,
				terminalId,
			});
		}
		const leftOut = frame.gpuProcessesLeftOut + Math.max(0, frame.gpuProcesses.length - PROCESSES_MAX);
		return { processes: { processes, leftOut } };
	}

	#part(part: TelemetryPart, frame: TelemetryFrame): readonly Row[] {
		const isSlow = SLOW_PARTS.some((slow) => slow === part);
		if (isSlow && !frame.hasSlow) return [];
		// Elsewhere an index means nothing: as a second key it would let one thing have many rows.
		const isIndexed = INDEXED_PARTS.some((indexed) => indexed === part);
		const table = this.#schema[part];
		const rows: Row[] = [];
		const seen = new Set<string>();
		for (const sample of ROWS_OF[part](frame)) {
			const index = isIndexed ? sample.index : 0;
			const refusal = this.#refusalOf(part, table, sample, `${index}/${sample.id}`, seen);
			if (refusal === undefined) rows.push({ id: sample.id, index, values: this.#values(table, sample) });
			else this.#refusedRows.set(refusal, (this.#refusedRows.get(refusal) ?? 0) + 1);
		}
		return rows;
	}

	#refusalOf(
		part: TelemetryPart,
		table: readonly TelemetryMetric[],
		{ id, values }: PartSample,
		key: string,
		seen: Set<string>,
	): RowRefusal | undefined {
		if (values.length !== table.length || table.length === 0) return 'values_length';
		if (part !== 'host' && !ID.test(id)) return 'id_invalid';
		if (seen.has(key)) return 'duplicate';
		if (this.#series + values.length > this.#input.limits.seriesPerNodeMax) return 'series_limit';
		if (part !== 'host' && !this.#input.knows(part, id)) return 'id_unknown';
		seen.add(key);
		this.#series += values.length;
		return undefined;
	}

	#values(table: readonly TelemetryMetric[], sample: PartSample): Float64Array {
		// Not Float64Array.from, which asks an iterator for each value.
		const values = new Float64Array(sample.values);
		for (let index = 0; index < values.length; index += 1) {
			const value = values[index] as number;
			// NaN says that there is no such source.
			if (Number.isNaN(value)) continue;
			const { min, max } = table[index] as TelemetryMetric;
			if (value >= min && value <= max) continue;
			values[index] = Number.NaN;
			const reason = Number.isFinite(value) ? 'absurd' : 'not_finite';
			this.#refusedValues.set(reason, (this.#refusedValues.get(reason) ?? 0) + 1);
		}
		return values;
	}
}
