import type { SampleObservation } from '../../../health/observation.ts';
import type { Policy } from '../../../health/policy.ts';
import type { Subject, SubjectKind } from '../../../health/verdict.ts';
import { positionIn, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { NodeIdentities } from '../telemetry/identities.ts';
import type { NodeSample, Row } from '../telemetry/sample.ts';

/**
 * From a frame to what the health engine hears: which things answered, and of their values only those that a rule looks
 * at. GPUs and slices are heard by each frame. Links and ports are hundreds a node and nearly always silent about
 * errors: one is named once the engine knows it or a counter that a rule watches has moved, so that a fleet doesn't keep a
 * million of them; from then on each sample that has it is heard.
 */
type Watched = readonly (readonly [key: string, part: TelemetryPart, position: number])[];

/** Of a GPU, beside the counters of rate rules: the driver's own word, and load. */
export const GPU_KEYS: readonly string[] = ['recovery_action', 'utilisation.gpu', 'gpm.graphics'];
const WATCHED = new WeakMap<Policy, Map<number, Readonly<Record<SubjectKind, Watched>>>>();

/** What is known of the node that a sample is of. */
export interface SampleNode {
	readonly identities: NodeIdentities | undefined;
	/** As its session said; empty: not known, or said in another custody. */
	readonly bootId: string;
}

export function sampleObservation(
	policy: Policy,
	sample: NodeSample,
	before: NodeSample | undefined,
	{ identities, bootId }: SampleNode,
	atMs: number,
	isKnown: (subject: Subject) => boolean,
): SampleObservation {
	const watched = watchedOf(policy, sample.schema);
	const hasSlow = sample.slowHeardAtMs === sample.heardAtMs;
	const slow = new Map(hasSlow ? sample.rows.gpuSlow.map((row) => [row.id, row]) : []);
	const parts: SampleObservation['parts'][number][] = [];
	for (const row of sample.rows.gpu)
		parts.push({
			subject: { kind: 'gpu', id: row.id, index: 0 },
			values: valuesOf(watched.gpu, { gpu: row, gpuSlow: slow.get(row.id) }),
		});
	for (const row of sample.rows.slice) {
		const gpu = identities?.slices.get(row.id)?.gpuUuid;
		const subject: Subject = { kind: 'slice', id: row.id, index: 0, ...(gpu === undefined ? {} : { gpu }) };
		parts.push({ subject, values: {} });
	}
	if (hasSlow)
		for (const kind of ['nvlink', 'nic'] as const) {
			const part = PART_OF[kind];
			const former = new Map((before?.rows[part] ?? []).map((row) => [`${row.id}/${row.index}`, row]));
			for (const row of sample.rows[part]) {
				const subject: Subject = { kind, id: row.id, index: row.index };
				if (!isKnown(subject) && !hasMoved(watched[kind], row, former.get(`${row.id}/${row.index}`))) continue;
				parts.push({ subject, values: valuesOf(watched[kind], { [part]: row }) });
			}
		}
	const { custody, simulated } = sample;
	return { kind: 'sample', atMs, custody, simulated, bootId, parts };
}

/**
 * The sample before, where counters can be counted on from it: not what an agent in other hands said, and not from before a
 * silence, over which nobody knows how fast they rose.
 */
export function comparable(
	{ thresholds }: Policy,
	sample: NodeSample,
	before: NodeSample | undefined,
): NodeSample | undefined {
	const { periodMs, slowEvery, silencePeriods } = thresholds;
	if (before?.custody !== sample.custody) return undefined;
	return sample.heardAtMs - before.slowHeardAtMs < silencePeriods * periodMs * slowEvery ? before : undefined;
}

/** What links and ports said before their counters moved, so that the engine knows from where they rose. */
export function beforeMoved(
	policy: Policy,
	observation: SampleObservation,
	before: NodeSample | undefined,
	isKnown: (subject: Subject) => boolean,
): SampleObservation['parts'] {
	if (before === undefined) return [];
	const watched = watchedOf(policy, before.schema);
	return observation.parts.flatMap(({ subject }) => {
		const { kind, id, index } = subject;
		if ((kind !== 'nvlink' && kind !== 'nic') || isKnown(subject)) return [];
		const row = before.rows[PART_OF[kind]].find((one) => one.id === id && one.index === index);
		return row === undefined ? [] : [{ subject, values: valuesOf(watched[kind], { [PART_OF[kind]]: row }) }];
	});
}

const PART_OF = { nvlink: 'nvlink', nic: 'ibPort' } as const;

function hasMoved(watched: Watched, row: Row, former: Row | undefined): boolean {
	return watched.some(([, , position]) => {
		const value = row.values[position] ?? Number.NaN;
		return value > (former?.values[position] ?? 0);
	});
}

function valuesOf(watched: Watched, rows: { readonly [Part in TelemetryPart]?: Row | undefined }) {
	const values: Record<string, number> = {};
	for (const [key, part, position] of watched) {
		const value = rows[part]?.values[position];
		if (value !== undefined && !Number.isNaN(value)) values[key] = value;
	}
	return values;
}

function watchedOf(policy: Policy, schema: number): Readonly<Record<SubjectKind, Watched>> {
	const bySchema = WATCHED.get(policy) ?? new Map<number, Readonly<Record<SubjectKind, Watched>>>();
	WATCHED.set(policy, bySchema);
	const found = bySchema.get(schema);
	if (found !== undefined) return found;
	const keysOf = (part: string) => policy.rates.filter((rule) => rule.part === part).map(({ key }) => key);
	const at = (keys: readonly string[], parts: readonly TelemetryPart[]): Watched =>
		[...new Set(keys)].flatMap((key) =>
			parts.flatMap((part) => {
				const position = positionIn(schema, part, key);
				return position < 0 ? [] : [[key, part, position] as const];
			}),
		);
	const made = {
		node: [],
		gpu: at([...GPU_KEYS, ...keysOf('gpu')], ['gpu', 'gpuSlow']),
		slice: [],
		nvlink: at(keysOf('nvlink'), ['nvlink']),
		nic: at(keysOf('nic'), ['ibPort']),
	};
	bySchema.set(schema, made);
	return made;
}

/** Slices, GPUs and ports that are no part of the node any more, by its newest inventory. */
export function isGone({ kind, id }: Subject, identities: NodeIdentities): boolean {
	if (kind === 'slice') return !identities.slices.has(id);
	if (kind === 'gpu' || kind === 'nvlink') return !identities.gpus.has(id);
	return kind === 'nic' && !identities.nics.has(id);
}
