import { addEvidence, type Finding, isNote } from './finding.ts';
import { Incidents, type SavedIncidents } from './incidents.ts';
import type { Outcome, Policy } from './policy.ts';
import { Rates } from './rates.ts';
import { type Clearing, type Evidence, STATES, type Subject } from './verdict.ts';

/** What is open about one thing, in one custody. Nothing here is ended by time but notes. */
export interface Opened {
	/** Findings with one key are one. */
	readonly key: string;
	readonly check: string;
	readonly code: string;
	readonly outcome: Outcome;
	readonly evidence: Evidence;
	readonly simulated: boolean;
	/** The source says the whole state, not an event: a milder word than before counts too. */
	readonly isState: boolean;
	/** The source is going to say when it is over. */
	readonly isOn: boolean;
}

export interface SavedRecord {
	readonly subject: Subject;
	readonly heardMs: number | null;
	readonly heardSinceMs: number | null;
	readonly simulated: boolean;
	readonly clearedBy: Clearing | null;
	readonly clearedAtMs: number | null;
	readonly findings: readonly (Omit<Finding, 'subject' | 'isInferred'> & { readonly key: string })[];
	readonly times: readonly (readonly [key: string, times: readonly number[]])[];
	readonly incidents: SavedIncidents | null;
}

const NONE: readonly Finding[] = [];
const FINDINGS_MAX = 64;
const TIMES_KEYS_MAX = 64;

/** Never written to. */
const NO_FINDINGS = new Map<string, Finding>();

export class SubjectRecord {
	readonly subject: Subject;
	readonly incidents: Incidents;
	readonly rates: Rates;
	readonly #noteMs: number;
	/** Made when there is something to keep: nearly all records of a fleet have nothing. */
	#findings = NO_FINDINGS;
	#times: Map<string, number[]> | undefined;
	/** Of the newest sample that had it. */
	heardMs: number | undefined;
	/** Heard without a gap since. */
	heardSinceMs: number | undefined;
	simulated = false;
	clearedBy: Clearing | null = null;
	clearedAtMs = Number.NEGATIVE_INFINITY;

	constructor(policy: Policy, subject: Subject) {
		this.subject = subject;
		this.incidents = new Incidents(policy, subject);
		this.rates = new Rates(policy, subject.kind);
		this.#noteMs = policy.thresholds.noteMs;
	}

	open({ key, check, code, outcome, evidence, simulated, isState, isOn }: Opened): void {
		const former = this.#findings.get(key);
		const atMs = evidence.observedAtMs;
		if (former === undefined && this.#findings.size >= FINDINGS_MAX && !this.#makeRoom(outcome)) return;
		const isMilder = former !== undefined && rank(former.outcome) > rank(outcome);
		const isKept = isMilder && !isState;
		const isSame = former !== undefined && (isKept || former.outcome === outcome);
		if (this.#findings === NO_FINDINGS) this.#findings = new Map();
		this.#findings.set(key, {
			subject: this.subject,
			check: isKept ? former.check : check,
			code,
			outcome: isKept ? former.outcome : outcome,
			sinceMs: isSame ? Math.min(former.sinceMs, atMs) : atMs,
			lastMs: Math.max(former?.lastMs ?? atMs, atMs),
			evidence: addEvidence(former?.evidence ?? [], evidence),
			simulated: simulated || former?.simulated === true,
			isInferred: false,
			isOn,
		});
	}

	has(key: string, code?: string): boolean {
		const finding = this.#findings.get(key);
		return finding !== undefined && (code === undefined || finding.code === code);
	}

	/** The source says that it is well; what only load can end is still open. */
	well(key: string, atMs: number): void {
		const finding = this.#findings.get(key);
		if (finding === undefined) return;
		if (finding.outcome.clears.includes('well') || isNote(finding.outcome)) this.#close(key, 'well', atMs);
		else this.#findings.set(key, { ...finding, isOn: false, lastMs: Math.max(finding.lastMs, atMs) });
	}

	/** All that facts of one kind opened. */
	wellKind(fact: string, atMs: number): void {
		for (const key of [...this.#findings.keys()]) if (key.startsWith(`${fact}:`)) this.well(key, atMs);
	}

	/** What was seen after `shownAtMs` is left open. */
	clear(clearing: Clearing, atMs: number, shownAtMs: number): void {
		if (this.incidents.clear(clearing, atMs, shownAtMs)) this.#cleared(clearing, atMs);
		for (const [key, { outcome, lastMs }] of this.#findings) {
			if (lastMs > shownAtMs) continue;
			if (clearing === 'serviced' || (outcome.clears.includes(clearing) && !isNote(outcome)))
				this.#close(key, clearing, atMs);
		}
	}

	/** Ends what was under load for long enough without coming back; whether there was any. */
	clearUnderLoad(atMs: number, cleanMs: number): boolean {
		const { loadSinceMs } = this.rates;
		if (loadSinceMs === undefined || this.#findings.size === 0) return false;
		const before = this.#findings.size;
		for (const [key, { outcome, lastMs, isOn }] of this.#findings)
			if (outcome.clears.includes('clean_load') && !isOn && atMs - Math.max(loadSinceMs, lastMs) >= cleanMs)
				this.#close(key, 'clean_load', atMs);
		return this.#findings.size < before;
	}

	/** How often it came within the time, this one included; counts up to `max`. */
	count(key: string, atMs: number, times: number, max: number, withinMs: number): number {
		this.#times ??= new Map();
		const all = this.#times;
		const kept = (all.get(key) ?? []).filter((one) => atMs - one < withinMs);
		for (let one = 0; one < Math.min(times, max); one++) kept.push(atMs);
		all.delete(key);
		all.set(key, kept.slice(-max));
		for (const oldest of all.keys()) {
			if (all.size <= TIMES_KEYS_MAX) break;
			all.delete(oldest);
		}
		return Math.min(kept.length, max);
	}

	/** Something is open, or was and counts for what comes. */
	get hasHistory(): boolean {
		return this.#findings.size > 0 || this.#times !== undefined || !this.incidents.isEmpty;
	}

	save(): SavedRecord {
		const { heardMs = null, heardSinceMs = null, simulated, clearedBy, clearedAtMs, subject } = this;
		return {
			...{ subject, heardMs, heardSinceMs, simulated, clearedBy, clearedAtMs },
			findings: [...this.#findings].map(([key, { subject: _, isInferred: __, ...finding }]) => ({ key, ...finding })),
			times: [...(this.#times ?? [])],
			incidents: this.incidents.isEmpty ? null : this.incidents.save(),
		};
	}

	/** `outcomeOf`: what the policy of now says of a finding. Counters and load begin anew: that only delays. */
	restore(saved: SavedRecord, outcomeOf: (key: string, finding: SavedRecord['findings'][number]) => Outcome): void {
		this.heardMs = saved.heardMs ?? undefined;
		this.heardSinceMs = saved.heardSinceMs ?? undefined;
		this.simulated = saved.simulated;
		this.clearedBy = saved.clearedBy;
		this.clearedAtMs = saved.clearedAtMs ?? Number.NEGATIVE_INFINITY;
		if (saved.findings.length > 0) this.#findings = new Map();
		for (const { key, ...finding } of saved.findings) {
			const outcome = outcomeOf(key, { key, ...finding });
			this.#findings.set(key, { ...finding, outcome, subject: this.subject, isInferred: false });
		}
		if (saved.times.length > 0) this.#times = new Map(saved.times.map(([key, times]) => [key, [...times]]));
		if (saved.incidents !== null) this.incidents.restore(saved.incidents);
	}

	findings(atMs: number): readonly Finding[] {
		if (this.#findings.size === 0) return this.incidents.isEmpty ? NONE : this.incidents.findings(atMs);
		const own = [...this.#findings.values()].filter(
			({ outcome, lastMs }) => !isNote(outcome) || atMs - lastMs <= this.#noteMs,
		);
		return [...own, ...this.incidents.findings(atMs)];
	}

	#close(key: string, clearing: Clearing, atMs: number): void {
		const finding = this.#findings.get(key);
		if (finding === undefined) return;
		this.#findings.delete(key);
		if (!isNote(finding.outcome)) this.#cleared(clearing, atMs);
	}

	#cleared(clearing: Clearing, atMs: number): void {
		this.clearedBy = clearing;
		this.clearedAtMs = atMs;
	}

	/** A note goes before anything that holds a state, and for it. */
	#makeRoom(wanted: Outcome): boolean {
		if (isNote(wanted)) return false;
		for (const [key, { outcome }] of this.#findings) if (isNote(outcome)) return this.#findings.delete(key);
		return false;
	}
}

function rank({ state }: Outcome): number {
	return STATES.indexOf(state);
}
