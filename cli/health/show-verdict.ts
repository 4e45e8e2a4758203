import { timestampDate } from '@bufbuild/protobuf/wkt';
import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	HealthAction,
	HealthClearing,
	type HealthGlance,
	type HealthReason,
	HealthState,
	type HealthVerdict,
} from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthSource, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type Io, paint, printable } from '../io.ts';
import { ago, enumName } from '../show.ts';

/** Health as people read it, the same in every verb. */
const COLOURS: Readonly<Partial<Record<HealthState, 'green' | 'yellow' | 'red' | 'cyan'>>> = {
	[HealthState.HEALTHY]: 'green',
	[HealthState.DEGRADED]: 'yellow',
	[HealthState.UNHEALTHY]: 'red',
	[HealthState.UNKNOWN]: 'cyan',
};

export function stateName(state: HealthState): string {
	return state === HealthState.UNSPECIFIED ? '-' : enumName(HealthState, state).toUpperCase();
}

export function colouredState(io: Io, state: HealthState): string {
	const colour = COLOURS[state];
	return colour === undefined ? stateName(state) : paint(io, colour, stateName(state));
}

/** `UNHEALTHY, simulated, quarantined, override: allowed until ...`. */
export function glanceText(io: Io, health: HealthGlance | undefined): string {
	if (health === undefined) return '-';
	const { override, claimed } = health;
	const until = override?.expiresAt === undefined ? '' : ` ${ago(io, override.expiresAt)}`;
	return [
		stateName(health.state),
		health.simulated ? 'simulated' : '',
		health.quarantined ? 'quarantined' : '',
		override === undefined ? '' : `override: ${override.schedulable ? 'allowed' : 'held'}, ends${until}`,
		claimed === HealthState.UNSPECIFIED ? '' : `tenant’s agent claims ${stateName(claimed)}`,
	]
		.filter((text) => text !== '')
		.join(', ');
}

export function actionsText(actions: readonly HealthAction[]): string {
	return actions.map((action) => enumName(HealthAction, action).toUpperCase().replaceAll(' ', '_')).join(' ');
}

export function reasonsText(reasons: readonly HealthReason[]): string {
	return reasons.map(({ checkId, code }) => (code === '' ? checkId : `${checkId} (${code})`)).join(', ');
}

export function subjectText({ subject }: HealthVerdict): string {
	if (subject === undefined || subject.kind === HealthSubjectKind.NODE) return 'node';
	const kind = enumName(HealthSubjectKind, subject.kind);
	const isIndexed = subject.kind === HealthSubjectKind.NVLINK || subject.kind === HealthSubjectKind.NIC;
	return isIndexed ? `${kind} ${subject.id}/${subject.index}` : `${kind} ${subject.id}`;
}

/** Several lines: the verdict, why, and what was seen. */
export function verdictText(io: Io, verdict: HealthVerdict): string {
	const { state, actions, reasons, evidence, custody, simulated, inferred, clearedBy, schedulable } = verdict;
	const notes = [
		simulated ? 'SIMULATED' : '',
		custody === Custody.PLATFORM ? '' : `only claimed in ${enumName(Custody, custody)} custody: decides nothing`,
		schedulable ? '' : 'not to be given to anybody',
		inferred ? 'inferred' : '',
		state === HealthState.HEALTHY && clearedBy !== HealthClearing.UNSPECIFIED
			? `last ended by ${enumName(HealthClearing, clearedBy)}`
			: '',
	].filter((note) => note !== '');
	const lines = [
		`${printable(subjectText(verdict))}: ${colouredState(io, state)} since ${ago(io, verdict.since)}${notes.length === 0 ? '' : ` [${notes.join('; ')}]`}`,
	];
	if (reasons.length > 0) lines.push(`    why:  ${printable(reasonsText(reasons))}`);
	if (state !== HealthState.HEALTHY) lines.push(`    do:   ${actionsText(actions)}`);
	for (const { source, raw, observedAt } of evidence) {
		const at = observedAt === undefined ? '' : `${timestampDate(observedAt).toISOString()} `;
		lines.push(`    seen: ${at}${enumName(HealthSource, source)}: ${printable(raw)}`);
	}
	return lines.join('\n');
}
