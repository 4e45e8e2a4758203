import { positionIn, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import { type CallerView, SEES_ALL } from './caller-view.ts';
import type { NodeSample, Row } from './sample.ts';

/**
 * The newest XID of a GPU stands in its samples until the next one comes, whoever had the node when it came. A tenant sees
 * it only if it is known to be of their time: if a sample before it, of their time already, had another. No clock of the
 * host is asked. The same code twice in a row is no change, so it may be blank where it could be shown, never the reverse.
 */
const KEY = 'xid.last';

/** By UUID of the GPU: when the sample came after which its newest XID was first seen. What isn't known is not in it. */
export function xidsAfter(
	schema: number,
	gpus: readonly Row[],
	before: NodeSample | undefined,
): ReadonlyMap<string, number> {
	const index = positionIn(schema, 'gpu', KEY);
	if (before === undefined || before.schema !== schema || index < 0) return NONE;
	let after: Map<string, number> | undefined;
	for (const { id, values } of gpus) {
		const now = values[index] as number;
		const earlier = before.rows.gpu.find((row) => row.id === id)?.values[index] ?? Number.NaN;
		if (Number.isNaN(now) || Number.isNaN(earlier)) continue;
		const atMs = now === earlier ? before.xidsAfterMs?.get(id) : before.receivedAtMs;
		if (atMs === undefined) continue;
		after ??= new Map();
		after.set(id, atMs);
	}
	return after ?? NONE;
}

const NONE: ReadonlyMap<string, number> = new Map();

/** The row without an XID that is not known to be of the time of who looks. */
export function withOwnXid(sample: NodeSample, part: TelemetryPart, row: Row, view: CallerView): Row {
	if (part !== 'gpu' || view === SEES_ALL) return row;
	const index = positionIn(sample.schema, 'gpu', KEY);
	const value = row.values[index] ?? Number.NaN;
	// 0: none since the agent started, in nobody's time.
	if (Number.isNaN(value) || value === 0) return row;
	const afterMs = sample.xidsAfterMs?.get(row.id);
	if (afterMs !== undefined && view.sees('gpu', row.id, afterMs)) return row;
	const values = Float64Array.from(row.values);
	values[index] = Number.NaN;
	return { ...row, values };
}

/** Whether a metric's history may be shown: a point alone doesn't tell in whose time the XID came. */
export function hasOwnHistory(key: string, view: CallerView): boolean {
	return key !== KEY || view === SEES_ALL;
}
