import type { Outcome } from './policy.ts';
import type { Evidence, HealthAction, HealthState, Subject } from './verdict.ts';

/** One thing that is wrong, or worth a note, with one subject; open until evidence ends it. */
export interface Finding {
	readonly subject: Subject;
	readonly check: string;
	readonly code: string;
	readonly outcome: Outcome;
	/** ms since the Unix epoch: first and newest. */
	readonly sinceMs: number;
	readonly lastMs: number;
	readonly evidence: readonly Evidence[];
	readonly simulated: boolean;
	readonly isInferred: boolean;
	/** The source that can say "well" still says "bad". */
	readonly isOn: boolean;
}

/** What it counts for at a moment: some worsen with time. */
export interface Weight {
	readonly state: HealthState;
	readonly actions: readonly HealthAction[];
	readonly sinceMs: number;
	readonly isInferred: boolean;
}

const EVIDENCE_MAX = 8;

export function weightOf({ outcome, sinceMs, isInferred }: Finding, atMs: number): Weight {
	const { worsens, state, actions } = outcome;
	if (worsens === undefined || atMs < sinceMs + worsens.afterMs) return { state, actions, sinceMs, isInferred };
	const worseSinceMs = sinceMs + worsens.afterMs;
	return { state: 'UNHEALTHY', actions: worsens.actions, sinceMs: worseSinceMs, isInferred: true };
}

/** A note holds no state: it is forgotten with time. */
export function isNote(outcome: Outcome): boolean {
	return outcome.state === 'HEALTHY';
}

/** The first, which says how it began, and the newest. */
export function addEvidence(evidence: readonly Evidence[], one: Evidence): readonly Evidence[] {
	if (evidence.length < EVIDENCE_MAX) return [...evidence, one];
	return [...evidence.slice(0, 1), ...evidence.slice(2 - EVIDENCE_MAX), one];
}
