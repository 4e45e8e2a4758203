import { assert } from '../kit/assert.ts';
import type { Finding } from './finding.ts';
import { judge } from './judge.ts';
import { CLAIM_LIMITS, LEDGER_LIMITS, Ledger, type SavedLedger } from './ledger.ts';
import type { HealthObservation, Observation } from './observation.ts';
import type { Policy } from './policy.ts';
import type { SubjectRecord } from './subject-record.ts';
import { type Custody, type Subject, subjectKey, type Verdict } from './verdict.ts';

/** What a node's engine knows, to go on with after a restart. */
export interface SavedHealth {
	/** Of this form. */
	readonly version: 1;
	readonly atMs: number;
	/** Since when somebody listened. */
	readonly startedMs: number;
	readonly custody: Custody;
	readonly held?: Custody;
	/** Of the platform: what a tenant's agent claims is read again from its facts. */
	readonly ledger: SavedLedger;
	readonly injections: readonly { readonly id: string; readonly endsAtMs: number; readonly ledger: SavedLedger }[];
}

interface Injected {
	readonly id: string;
	/** In which it was heard: what comes after a hand-over stays among the claims, and ends with its time all the same. */
	readonly custody: Custody;
	readonly endsAtMs: number;
	readonly ledger: Ledger;
}

/** At once on one node, in one custody: whoever orders one more is refused. */
export const INJECTIONS_MAX = 16;

/**
 * The health engine: what is heard of one node becomes verdicts, by a policy that is data. Pure and synchronous: no
 * clock, no disk, no randomness; the same observations in the same order give the same verdicts. Its users are the
 * control plane, which gates by it, and `gpuaas health policy test`, which replays recorded facts.
 *
 * Invariants (engine.property.test.ts): UNHEALTHY has an action. No data for `silencePeriods` is never HEALTHY. What
 * holds a state ends on evidence only. What is heard in a tenant's custody changes no verdict of the platform's and no
 * `schedulable`; it gets verdicts of its own, which alert. What came from a test double says `simulated`.
 */
export class NodeHealth {
	readonly #policy: Policy;
	readonly #judgesSilence: boolean;
	readonly #ledgers = new Map<Custody, Ledger>();
	/** What was injected, each with a ledger of its own, so that it never meets what is real and ends as a whole. */
	readonly #injections = new Map<string, Injected>();
	/** Of what is gone, so that the revision never goes back; and of changes of custody. */
	#revisionBase = 0;
	#custody: Custody = 'platform';
	/** Who has the node, as the platform says; what is silent in other hands is not asked. */
	#held: Custody = 'platform';
	#startedMs: number | undefined;
	#nowMs = Number.NEGATIVE_INFINITY;

	/** `judgesSilence: false`: for records that hold no samples, where each silence is the recorder's. */
	constructor(policy: Policy, { judgesSilence = true }: { readonly judgesSilence?: boolean } = {}) {
		this.#policy = policy;
		this.#judgesSilence = judgesSilence;
		this.#ledgerOf('platform');
	}

	/** Throws an AssertionError where time goes back. */
	observe(observation: Observation): void {
		assert(observation.atMs >= this.#nowMs, 'observations come in the order of their time');
		this.#nowMs = observation.atMs;
		this.#startedMs ??= observation.atMs;
		if (observation.kind === 'time') return;
		if (observation.kind === 'custody') {
			this.#holds(observation.held, observation.atMs);
			return;
		}
		const { custody } = observation;
		if (observation.kind === 'fact' && observation.injection !== undefined) {
			this.#inject(observation.injection, observation);
			return;
		}
		if (this.#custody !== custody) this.#revisionBase += 1;
		this.#custody = custody;
		const hasBooted = this.#ledgerOf(custody).observe(observation);
		if (custody !== 'platform') return;
		// What the platform saw also ends what was only claimed; never the other way.
		const claims = [...this.#ledgers].filter(([other]) => other !== 'platform').map(([, ledger]) => ledger);
		for (const ledger of [...claims, ...[...this.#injections.values()].map((one) => one.ledger)]) {
			if (hasBooted) ledger.clear({ kind: 'node', id: '', index: 0 }, 'boot', observation.atMs);
			if (observation.kind === 'removed') ledger.forget(observation.subject);
			if (observation.kind !== 'clearing') continue;
			const { subject, clearing, atMs, shownAtMs } = observation;
			ledger.clear(subject, clearing, atMs, shownAtMs);
		}
	}

	#holds(held: Custody, atMs: number): void {
		if (this.#held === held) return;
		this.#revisionBase += 1;
		// Back in our hands: the silence of before is nobody's.
		if (held === 'platform') this.#ledgerOf('platform').hearAll(atMs);
		this.#held = held;
	}

	/** By what was heard in platform custody. */
	knows(subject: Subject): boolean {
		return this.#ledgerOf('platform').records.has(subjectKey(subject));
	}

	/** Those of the platform first, the node before its parts; then those of other custodies. */
	verdicts(atMs: number): readonly Verdict[] {
		const platform = this.#judgeAll('platform', atMs);
		const open = new Map(platform.map((verdict) => [subjectKey(verdict.subject), verdict.schedulable]));
		const claimed = [...this.#ledgers.keys()]
			.filter((custody) => custody !== 'platform')
			.flatMap((custody) => this.#judgeAll(custody, atMs))
			.filter(({ custody, state }) => custody === this.#custody || state !== 'HEALTHY')
			.map((verdict) => ({ ...verdict, schedulable: open.get(subjectKey(verdict.subject)) ?? false }));
		return [...platform, ...claimed];
	}

	/** Rises with everything that may change a verdict, time apart. */
	get revision(): number {
		let revision = this.#revisionBase;
		for (const ledger of this.#ledgers.values()) revision += ledger.revision;
		for (const { ledger } of this.#injections.values()) revision += 1 + ledger.revision;
		return revision;
	}

	/** For another process, or the next one: JSON. */
	save(atMs: number): SavedHealth {
		this.#endInjections(atMs);
		const injections = this.#injectionsIn('platform').map(({ id, endsAtMs, ledger }) => ({
			...{ id, endsAtMs },
			ledger: ledger.save(),
		}));
		return {
			version: 1,
			atMs,
			startedMs: this.#startedMs ?? atMs,
			custody: this.#custody,
			held: this.#held,
			ledger: this.#ledgerOf('platform').save(),
			injections,
		};
	}

	/** What nobody could hear between then and `atMs` is no silence, nor is any before `silenceFromMs`. What is open is judged by the policy of now. */
	static restore(policy: Policy, saved: SavedHealth, atMs: number, silenceFromMs = atMs): NodeHealth {
		const health = new NodeHealth(policy);
		health.#nowMs = atMs;
		health.#startedMs = saved.startedMs;
		health.#custody = saved.custody;
		health.#held = saved.held ?? 'platform';
		health.#ledgerOf('platform').restore(saved.ledger, saved.atMs, atMs, silenceFromMs);
		for (const { id, endsAtMs, ledger } of saved.injections) {
			const made = new Ledger(policy);
			made.restore(ledger, saved.atMs, atMs, atMs);
			health.#injections.set(`platform/${id}`, { id, custody: 'platform', endsAtMs, ledger: made });
		}
		return health;
	}

	/** The next moment after `afterMs` at which a verdict changes though nothing is heard; undefined: none. */
	nextDeadlineMs(afterMs: number): number | undefined {
		let next = Number.POSITIVE_INFINITY;
		for (const ledger of this.#ledgers.values())
			for (const record of ledger.records.values()) {
				const heardMs = record.heardMs ?? this.#startedMs ?? afterMs;
				const silentMs = this.#judgesSilence ? heardMs + ledger.silenceMs(record.subject) : next;
				const worseMs = record
					.findings(afterMs)
					.flatMap(({ outcome, sinceMs }) =>
						outcome.worsens === undefined ? [] : [sinceMs + outcome.worsens.afterMs],
					);
				for (const atMs of [silentMs, ...worseMs]) if (atMs > afterMs && atMs < next) next = atMs;
			}
		for (const { endsAtMs } of this.#injections.values()) if (endsAtMs > afterMs) next = Math.min(next, endsAtMs);
		return Number.isFinite(next) ? next : undefined;
	}

	#inject({ id, endsAtMs }: { readonly id: string; readonly endsAtMs: number }, observation: HealthObservation): void {
		this.#endInjections(observation.atMs);
		if (endsAtMs <= observation.atMs) return;
		const { custody } = observation;
		const key = `${custody}/${id}`;
		let injected = this.#injections.get(key);
		if (injected === undefined) {
			if (this.#injectionsIn(custody).length >= INJECTIONS_MAX) return;
			const limits = custody === 'platform' ? LEDGER_LIMITS : CLAIM_LIMITS;
			injected = { id, custody, endsAtMs, ledger: new Ledger(this.#policy, limits) };
			this.#injections.set(key, injected);
		}
		injected.ledger.observe({ ...observation, simulated: true });
	}

	#injectionsIn(custody: Custody): readonly Injected[] {
		return [...this.#injections.values()].filter((one) => one.custody === custody);
	}

	#endInjections(atMs: number): void {
		for (const [key, { endsAtMs, ledger }] of this.#injections) {
			if (endsAtMs > atMs) continue;
			this.#injections.delete(key);
			this.#revisionBase += 2 + ledger.revision;
		}
	}

	#ledgerOf(custody: Custody): Ledger {
		const found = this.#ledgers.get(custody);
		if (found !== undefined) return found;
		const made = new Ledger(this.#policy, custody === 'platform' ? LEDGER_LIMITS : CLAIM_LIMITS);
		this.#ledgers.set(custody, made);
		return made;
	}

	#judgeAll(custody: Custody, atMs: number): readonly Verdict[] {
		const ledger = this.#ledgerOf(custody);
		this.#endInjections(atMs);
		const injected = this.#injectionsIn(custody).map((one) => one.ledger.records);
		const parts = [...ledger.records.values(), ...onlyIn(injected, ledger.records)];
		const findings = new Map(
			parts.map((record) => {
				const key = subjectKey(record.subject);
				const more = injected.map((records) => records.get(key)).filter((one) => one !== undefined && one !== record);
				return [record, [record, ...more].flatMap((one) => one?.findings(atMs) ?? [])];
			}),
		);
		const silent = new Map(
			parts.map((record) => {
				const isReal = ledger.records.get(subjectKey(record.subject)) === record;
				return [record, isReal ? this.#silentSince(custody, ledger, record, atMs) : undefined];
			}),
		);
		return parts.map((record) => {
			const { kind } = record.subject;
			const isMade = kind === 'node' || kind === 'slice';
			const related = isMade ? parts.filter((other) => other !== record && isPartOf(record, other)) : [];
			return judge({
				policy: this.#policy,
				record,
				findings: [record, ...related].flatMap((one): readonly Finding[] => findings.get(one) ?? []),
				silentSinceMs: earliest([record, ...related].map((one) => silent.get(one))),
				silenceMs: ledger.silenceMs(record.subject),
				custody,
				simulated: [record, ...related].some(({ simulated }) => simulated),
				bootId: ledger.bootId,
				atMs,
			});
		});
	}

	/** Nothing is asked of a custody that is over: it is silent because nobody listens. */
	#silentSince(custody: Custody, ledger: Ledger, record: SubjectRecord, atMs: number): number | undefined {
		if (!this.#judgesSilence || (custody !== 'platform' && custody !== this.#custody)) return undefined;
		if (custody === 'platform' && this.#held !== 'platform') return undefined;
		if (record.heardMs === undefined) return Math.min(this.#startedMs ?? atMs, atMs);
		const silentMs = record.heardMs + ledger.silenceMs(record.subject);
		return atMs >= silentMs ? silentMs : undefined;
	}
}

/** A node is made of everything on it; a slice is as well as its GPU. */
function isPartOf({ subject }: SubjectRecord, { subject: other }: SubjectRecord): boolean {
	if (subject.kind === 'node') return true;
	return subject.kind === 'slice' && other.kind === 'gpu' && subject.gpu === other.id;
}

/** Things that only an injection named. */
function onlyIn(
	injected: readonly ReadonlyMap<string, SubjectRecord>[],
	real: ReadonlyMap<string, SubjectRecord>,
): readonly SubjectRecord[] {
	const found = new Map<string, SubjectRecord>();
	for (const records of injected)
		for (const [key, record] of records) if (!real.has(key) && !found.has(key)) found.set(key, record);
	return [...found.values()];
}

function earliest(times: readonly (number | undefined)[]): number | undefined {
	const known = times.filter((time) => time !== undefined);
	return known.length === 0 ? undefined : Math.min(...known);
}
