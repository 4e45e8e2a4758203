import { type Finding, isNote, weightOf } from './finding.ts';
import { DRIVER_CHECK } from './ledger.ts';
import type { Policy } from './policy.ts';
import type { SubjectRecord } from './subject-record.ts';
import {
	type Custody,
	type HealthAction,
	type HealthState,
	orderedActions,
	type Reason,
	SEVERITIES,
	STATES,
	severestState,
	type Verdict,
} from './verdict.ts';

/**
 * From what is open to a verdict. UNHEALTHY is not masked by silence, because silence ends nothing; anything milder is
 * UNKNOWN then. Where the driver said what to do, the table's actions for XIDs are left out.
 */
export interface Judged {
	readonly policy: Policy;
	readonly record: SubjectRecord;
	/** Its own and those of what it is made of. */
	readonly findings: readonly Finding[];
	/** Since when nothing is known of it; undefined: something is. */
	readonly silentSinceMs: number | undefined;
	readonly silenceMs: number;
	readonly custody: Custody;
	readonly simulated: boolean;
	readonly bootId: string;
	readonly atMs: number;
}

/** Of the reason that nothing was heard for too long. */
export const SILENCE_CHECK = 'silence';
const EVIDENCE_MAX = 16;
const REASONS_MAX = 64;

export function judge(judged: Judged): Verdict {
	const { policy, record, custody, atMs, silenceMs } = judged;
	const findings = withSilence(judged);
	const weights = findings.map((finding) => weightOf(finding, atMs));
	const state = severestState(weights.map((weight) => weight.state));
	const real = findings.filter(({ simulated }) => !simulated).map((finding) => weightOf(finding, atMs).state);
	const realState = severestState(real);
	const holding = weights.filter((weight) => weight.state === state);
	const sinceMs =
		state === 'HEALTHY'
			? Math.max(record.heardSinceMs ?? atMs, record.clearedAtMs)
			: Math.min(...holding.map((weight) => weight.sinceMs));
	return {
		subject: record.subject,
		state,
		realState,
		schedulable: isOpen(state, findings),
		actions: actionsOf(state, findings, atMs),
		reasons: reasonsOf(findings, policy.version),
		evidence: findings
			.flatMap(({ evidence }) => evidence)
			.toSorted((left, right) => left.observedAtMs - right.observedAtMs)
			.slice(-EVIDENCE_MAX),
		sinceMs,
		ttlMs: silenceMs,
		confidence:
			holding.length > 0 && state !== 'HEALTHY' && holding.every(({ isInferred }) => isInferred)
				? 'inferred'
				: 'observed',
		clearedBy: record.clearedBy,
		clearedAtMs: record.clearedBy === null ? null : record.clearedAtMs,
		policyVersion: policy.version,
		custody,
		simulated: judged.simulated || state !== realState,
		isDouble: judged.simulated,
	};
}

function isOpen(state: HealthState, findings: readonly Finding[]): boolean {
	if (state === 'HEALTHY') return true;
	return state === 'DEGRADED' && findings.every(({ outcome }) => isNote(outcome) || outcome.schedulable !== false);
}

function withSilence({ policy, record, findings, silentSinceMs, bootId }: Judged): readonly Finding[] {
	const outcome = policy.xidClasses.get('silence');
	if (silentSinceMs === undefined || outcome === undefined) return findings;
	const silence: Finding = {
		subject: record.subject,
		check: SILENCE_CHECK,
		code: '',
		outcome,
		sinceMs: silentSinceMs,
		lastMs: silentSinceMs,
		evidence: [{ source: 'peer', raw: 'no data for too long', observedAtMs: silentSinceMs, bootId }],
		simulated: false,
		isInferred: true,
		isOn: false,
	};
	return [...findings, silence];
}

function actionsOf(state: HealthState, findings: readonly Finding[], atMs: number): readonly HealthAction[] {
	const isDriverHeard = new Set(
		findings.filter(({ check }) => check === DRIVER_CHECK).map(({ subject }) => subject.id),
	);
	const wanted = findings
		.filter(({ check, subject, isInferred }) => check !== 'xid' || isInferred || !isDriverHeard.has(subject.id))
		// What is to be done about silence is of use only where nothing worse is known.
		.filter(({ check }) => check !== SILENCE_CHECK || state === 'UNKNOWN')
		.flatMap((finding) => weightOf(finding, atMs).actions);
	const ordered = orderedActions(wanted);
	if (state === 'UNHEALTHY' && ordered[0] === 'NONE') throw new TypeError('UNHEALTHY without an action');
	return ordered;
}

function reasonsOf(findings: readonly Finding[], policyVersion: string): readonly Reason[] {
	const reasons = new Map<string, Reason & { readonly rank: number; readonly sinceMs: number }>();
	for (const { check, code, outcome, sinceMs, lastMs, simulated } of findings) {
		const rank = STATES.indexOf(outcome.state) * SEVERITIES.length + SEVERITIES.indexOf(outcome.severity);
		const key = `${check}/${code}/${simulated}`;
		if ((reasons.get(key)?.rank ?? -1) >= rank) continue;
		const { severity } = outcome;
		reasons.set(key, { checkId: check, code, severity, policyVersion, simulated, rank, sinceMs, lastMs });
	}
	return [...reasons.values()]
		.toSorted((left, right) => right.rank - left.rank || left.sinceMs - right.sinceMs)
		.slice(0, REASONS_MAX)
		.map(({ rank: _, ...reason }) => reason);
}
