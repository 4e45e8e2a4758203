import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { PolicyDocument } from '../../../health/policy.ts';
import { type HealthRecord, HealthRecordSchema } from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthSubjectKind } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { Custody } from '../../store/port/nodes.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { CUSTODY } from '../wire/node.ts';
import { GPU_KEYS } from './sample-observation.ts';

/**
 * The samples of a node's record: what the rules of a policy look at, from the ring of its agent, three hours at most.
 * No database keeps samples. Links and ports are in it where a counter of theirs rose: the others, hundreds a node, say
 * nothing in each of a thousand samples.
 */
export interface SampleSpan {
	readonly nodeId: string;
	readonly custody: Custody;
	/** Since the node is in the hands that it is in: what its agent said before is another's word. */
	readonly fromMs: number;
	readonly nowMs: number;
}

const RING_MS = 3 * 3_600_000;
const SAMPLES_MAX = 720;
const VALUES_MAX = 100_000;

const PARTS = [
	{ kind: HealthSubjectKind.GPU, of: 'gpu', tables: ['gpu', 'gpuSlow'] },
	{ kind: HealthSubjectKind.NVLINK, of: 'nvlink', tables: ['nvlink'] },
	{ kind: HealthSubjectKind.NIC, of: 'nic', tables: ['ibPort'] },
] as const satisfies readonly {
	readonly kind: HealthSubjectKind;
	readonly of: PolicyDocument['rates'][number]['part'];
	readonly tables: readonly TelemetryPart[];
}[];

interface Thing {
	readonly kind: HealthSubjectKind;
	readonly id: string;
	readonly index: number;
}

interface Said extends Thing {
	readonly key: string;
	readonly points: readonly (readonly [atMs: number, value: number])[];
	readonly simulated: boolean;
}

/** Oldest first; empty where the agent does not answer. */
export async function recordedSamples(
	telemetry: Pick<Telemetry, 'latest' | 'rings'>,
	policy: PolicyDocument,
	span: SampleSpan,
): Promise<readonly HealthRecord[]> {
	const asked = PARTS.flatMap(({ kind, of, tables }) =>
		tables.map((table) => askRing(telemetry, kind, table, keysOf(policy, of, table), span)),
	);
	const said = (await Promise.all(asked)).flat();
	const moments = new Map<
		number,
		{ simulated: boolean; things: Map<string, Thing & { values: Record<string, number> }> }
	>();
	let left = VALUES_MAX;
	// From the newest: where there is too much, what is oldest is left out.
	for (const { points, key, simulated, ...thing } of said.filter(isTold))
		for (const [atMs, value] of points.toReversed()) {
			if (left === 0) break;
			left -= 1;
			const moment = moments.get(atMs) ?? { simulated: false, things: new Map() };
			moments.set(atMs, moment);
			moment.simulated ||= simulated;
			const name = `${thing.kind}/${thing.id}/${thing.index}`;
			const known = moment.things.get(name) ?? { ...thing, values: {} };
			moment.things.set(name, known);
			known.values[key] = value;
		}
	return [...moments]
		.toSorted(([left], [right]) => left - right)
		.slice(-SAMPLES_MAX)
		.map(([atMs, { simulated, things }]) => {
			const parts = [...things.values()].map(({ values, ...subject }) => ({ subject, values }));
			const record = { case: 'sample' as const, value: { simulated, parts } };
			return create(HealthRecordSchema, { at: timestampFromMs(atMs), custody: CUSTODY[span.custody], record });
		});
}

function keysOf({ rates }: PolicyDocument, of: string, table: TelemetryPart): readonly string[] {
	const wanted = [...(of === 'gpu' ? GPU_KEYS : []), ...rates.filter(({ part }) => part === of).map(({ key }) => key)];
	return [...new Set(wanted)].filter((key) => CURRENT_SCHEMA[table].some((metric) => metric.key === key));
}

/** A counter of a link or a port that stood still is no word about it. */
function isTold({ kind, points }: Said): boolean {
	return kind === HealthSubjectKind.GPU || points.some(([, value], at) => value > (points[at - 1]?.[1] ?? value));
}

async function askRing(
	{ latest, rings }: Pick<Telemetry, 'latest' | 'rings'>,
	kind: HealthSubjectKind,
	part: TelemetryPart,
	keys: readonly string[],
	{ nodeId, fromMs, nowMs }: SampleSpan,
): Promise<readonly Said[]> {
	if (keys.length === 0) return [];
	const sample = latest.get(nodeId);
	// The ring's times are the agent's.
	const offsetMs = sample === undefined ? 0 : sample.receivedAtMs - sample.takenAtMs;
	const span = { fromMs: Math.max(fromMs, nowMs - RING_MS) - offsetMs, untilMs: nowMs - offsetMs };
	const answer = await rings.ask(nodeId, { part, id: '', keys: [...keys], ...span, pointsMax: SAMPLES_MAX });
	return (answer?.series ?? []).map(({ id, index, key, atMs, values }) => ({
		...{ kind, id, index, key, simulated: answer?.simulated ?? false },
		points: atMs.flatMap((at, number) => {
			const value = values[number] ?? Number.NaN;
			const ourMs = Math.round(Number(at) + offsetMs);
			return Number.isNaN(value) || ourMs < fromMs || ourMs > nowMs ? [] : [[ourMs, value] as const];
		}),
	}));
}
