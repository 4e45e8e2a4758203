import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import {
	type HealthFact,
	HealthFactKind,
	HealthFactKindSchema,
	HealthSource,
	type HealthSubject,
	HealthSubjectKind,
	HealthSubjectSchema,
} from '../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { HealthObservation, Heard } from './observation.ts';
import { type Evidence, NODE, type Subject, type SubjectKind } from './verdict.ts';

/** From the agent's words to the engine's. */
const PREFIX = 'HEALTH_FACT_KIND_';

/** HealthFactKind without its prefix: what policies call facts. */
export const FACT_KINDS: readonly string[] = HealthFactKindSchema.values
	.filter(({ number }) => number !== HealthFactKind.UNSPECIFIED)
	.map(({ name }) => name.slice(PREFIX.length));

const NAMES = new Map(HealthFactKindSchema.values.map(({ number, name }) => [number, name.slice(PREFIX.length)]));

/** As in FACT_KINDS; of one that a newer agent has, its number. */
export function factKindName(kind: HealthFactKind): string {
	return NAMES.get(kind) ?? String(kind);
}

const SUBJECTS: ReadonlyMap<HealthSubjectKind, SubjectKind> = new Map([
	[HealthSubjectKind.GPU, 'gpu'],
	[HealthSubjectKind.SLICE, 'slice'],
	[HealthSubjectKind.NVLINK, 'nvlink'],
	[HealthSubjectKind.NIC, 'nic'],
]);

const SOURCES: ReadonlyMap<HealthSource, Evidence['source']> = new Map([
	[HealthSource.KMSG, 'kmsg'],
	[HealthSource.NVML, 'nvml'],
	[HealthSource.SYSFS, 'sysfs'],
]);

/**
 * `heard`: when it came, in whose custody, who held the GPU, and whether what the fact says of an injection is true. One
 * that nobody asked for is judged as if it were real.
 */
export function observationOf(
	fact: HealthFact,
	{
		isInjected,
		...heard
	}: Pick<Heard, 'atMs' | 'custody'> & { readonly tenant?: string; readonly isInjected: boolean },
): HealthObservation {
	const said = fact.subject ?? create(HealthSubjectSchema);
	const { injection: id, injectionEndsAt } = fact;
	const endsAtMs = injectionEndsAt === undefined ? 0 : timestampMs(injectionEndsAt);
	return {
		...heard,
		...(isInjected && id !== '' ? { injection: { id, endsAtMs } } : {}),
		kind: 'fact',
		fact: NAMES.get(fact.kind) ?? '',
		subject: subjectOf(said),
		part: said.kind === HealthSubjectKind.DISK ? said.id : '',
		code: fact.code,
		source: SOURCES.get(fact.source) ?? 'peer',
		raw: said.kind === HealthSubjectKind.DISK ? `disk ${said.id}: ${fact.raw}` : fact.raw,
		observedAtMs: fact.observedAt === undefined ? heard.atMs : timestampMs(fact.observedAt),
		bootId: fact.bootId,
		before: fact.before,
		after: fact.after,
		count: Math.max(1, fact.count),
		isOngoing: fact.ongoing,
		simulated: fact.simulated,
	};
}

/** A disk is the node's: verdicts are per node, GPU, slice, NIC and link. */
function subjectOf({ kind, id, index }: HealthSubject): Subject {
	const known = SUBJECTS.get(kind);
	return known === undefined ? NODE : { kind: known, id, index };
}
