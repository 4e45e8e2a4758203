import { Boots, type SavedBoots } from './boots.ts';
import { isNote } from './finding.ts';
import type { HealthObservation, Observation, SampleObservation } from './observation.ts';
import type { Outcome, Policy } from './policy.ts';
import { asNote, isExpected, type Rules, rulesOf } from './rules.ts';
import { type SavedRecord, SubjectRecord } from './subject-record.ts';
import { type Clearing, type Evidence, NODE, type Subject, subjectKey } from './verdict.ts';

/**
 * What was heard of one node in one custody. It never sees what was heard in another, so that no word of a tenant's
 * agent can reach what the platform decides by.
 */
export interface LedgerLimits {
	readonly subjectsMax: number;
	readonly rawLengthMax: number;
}

/** More than any host has. */
export const LEDGER_LIMITS: LedgerLimits = Object.freeze({ subjectsMax: 4096, rawLengthMax: 1024 });
/** Whoever has root on a host may make up what it likes: enough to warn by, and little to hold. */
export const CLAIM_LIMITS: LedgerLimits = Object.freeze({ subjectsMax: 256, rawLengthMax: 256 });

export interface SavedLedger {
	readonly boots: SavedBoots;
	readonly records: readonly SavedRecord[];
}

export class Ledger {
	readonly #policy: Policy;
	readonly #limits: LedgerLimits;
	readonly #rules: Rules;
	#boots = new Boots();
	readonly #records = new Map<string, SubjectRecord>();

	constructor(policy: Policy, limits: LedgerLimits = LEDGER_LIMITS) {
		this.#policy = policy;
		this.#limits = limits;
		this.#rules = rulesOf(policy);
		this.#recordOf(NODE);
	}

	/** Rises with everything that may change a verdict; a sample that says what the last one said changes none. */
	revision = 0;

	get records(): ReadonlyMap<string, SubjectRecord> {
		return this.#records;
	}

	get bootId(): string {
		return this.#boots.current;
	}

	/** Returns whether it showed another boot, which ended what a boot ends. */
	observe(observation: Exclude<Observation, { kind: 'time' | 'custody' }>): boolean {
		const { atMs, bootId } = observation;
		const heardMs = observation.kind === 'fact' ? Math.min(observation.observedAtMs, atMs) : atMs;
		const isLive = observation.kind === 'session' || observation.kind === 'sample';
		const boot = isLive ? this.#boots.tell(bootId, heardMs) : this.#boots.take(bootId, heardMs);
		if (boot === 'new') this.clear(NODE, 'boot', heardMs);
		if (observation.kind !== 'sample') this.revision += 1;
		if (observation.kind === 'sample') this.#sample(observation);
		else if (observation.kind === 'clearing')
			this.clear(observation.subject, observation.clearing, atMs, observation.shownAtMs);
		else if (observation.kind === 'removed') this.forget(observation.subject);
		else if (observation.kind === 'fact') this.#fact(observation, heardMs, boot === 'old');
		return boot === 'new';
	}

	/** Of a GPU: also what is open about its links and slices; of the node: about everything. */
	clear(subject: Subject, clearing: Clearing, atMs: number, shownAtMs = Number.POSITIVE_INFINITY): void {
		this.revision += 1;
		for (const record of this.#records.values())
			if (isWithin(record.subject, subject)) record.clear(clearing, atMs, shownAtMs);
	}

	save(): SavedLedger {
		return { boots: this.#boots.save(), records: [...this.#records.values()].map((record) => record.save()) };
	}

	/** As if everything had been heard now. */
	hearAll(atMs: number): void {
		this.revision += 1;
		for (const record of this.#records.values()) record.heardMs = atMs;
	}

	/** What was heard when it was saved counts as heard at `atMs`: nobody listened since. It is not silent before `silenceFromMs`. */
	restore({ boots, records }: SavedLedger, savedMs: number, atMs: number, silenceFromMs: number): void {
		this.#boots = Boots.restore(boots);
		for (const saved of records) {
			const record = this.#recordOf(saved.subject);
			if (record === undefined) continue;
			record.restore(saved, (key, { check, code, outcome }) =>
				isNote(outcome) ? outcome : (this.#outcomeNow(key, check, code) ?? outcome),
			);
			const { heardMs } = record;
			const silenceMs = this.silenceMs(record.subject);
			if (heardMs !== undefined && savedMs - heardMs < silenceMs)
				record.heardMs = Math.max(atMs, silenceFromMs - silenceMs);
		}
	}

	/** Undefined: no rule of this policy says it any more. */
	#outcomeNow(key: string, check: string, code: string): Outcome | undefined {
		if (key === DRIVER_KEY) return this.#driverOutcome(Number(code.slice(DRIVER_CODE.length)));
		const rules = key.startsWith(RATE_KEY) ? this.#policy.rates : this.#policy.facts;
		return rules.find((rule) => rule.check === check);
	}

	/** With everything that is part of it; the node itself stays. */
	forget(subject: Subject): void {
		for (const [key, record] of this.#records)
			if (record.subject.kind !== 'node' && isWithin(record.subject, subject)) this.#records.delete(key);
	}

	/** ms without data after which nothing is known of it. */
	silenceMs({ kind }: Subject): number {
		const { periodMs, slowEvery, silencePeriods } = this.#policy.thresholds;
		return silencePeriods * periodMs * (kind === 'nvlink' || kind === 'nic' ? slowEvery : 1);
	}

	#recordOf(subject: Subject): SubjectRecord | undefined {
		const key = subjectKey(subject);
		const found = this.#records.get(key);
		if (found !== undefined || this.#records.size >= this.#limits.subjectsMax) return found;
		const made = new SubjectRecord(this.#policy, subject);
		this.#records.set(key, made);
		this.revision += 1;
		return made;
	}

	#sample(sample: SampleObservation): void {
		const { atMs, simulated } = sample;
		for (const { subject, values } of [{ subject: NODE, values: {} }, ...sample.parts]) {
			const record = this.#recordOf(subject);
			if (record === undefined) continue;
			const isFirst = record.heardMs === undefined || atMs - record.heardMs >= this.silenceMs(subject);
			if (isFirst || record.heardSinceMs === undefined) record.heardSinceMs = atMs;
			if (isFirst || record.simulated !== simulated) this.revision += 1;
			record.heardMs = atMs;
			record.simulated = simulated;
			for (const { rule, by, withinMs } of record.rates.take(values, atMs, isFirst)) {
				const raw = `${rule.key} rose by ${by} in ${Math.round(withinMs / 1000)} s (limit ${rule.max} in ${rule.windowMs / 1000} s)`;
				const evidence = {
					source: subject.kind === 'nic' ? 'sysfs' : 'nvml',
					raw,
					observedAtMs: atMs,
					bootId: this.bootId,
				} as const;
				this.revision += 1;
				record.open({
					key: `${RATE_KEY}${rule.check}`,
					check: rule.check,
					code: '',
					outcome: rule,
					evidence,
					simulated,
					isState: false,
					isOn: false,
				});
			}
			this.#driverAction(record, values['recovery_action'], sample, 'sample');
			if (record.clearUnderLoad(atMs, this.#policy.thresholds.loadCleanMs)) this.revision += 1;
		}
	}

	#fact(fact: HealthObservation, atMs: number, isOldBoot: boolean): void {
		const { kind } = fact.subject;
		const isLink = kind === 'nvlink' || kind === 'nic';
		// A fleet has a million of them, and nearly all are well: none is kept for having said so.
		if (isLink && !this.#records.has(subjectKey(fact.subject)) && this.#rules.isWell(fact)) return;
		const record = this.#recordOf(fact.subject);
		if (record === undefined) return;
		// Links and ports are in a sample only once they are known here: until then the fact is what was heard of them.
		if (isLink) record.heardMs = Math.max(record.heardMs ?? fact.atMs, fact.atMs);
		const evidence: Evidence = {
			source: fact.source,
			raw: fact.raw.slice(0, this.#limits.rawLengthMax),
			observedAtMs: atMs,
			bootId: fact.bootId,
		};
		const xid = fact.fact === 'FALLEN_OFF_BUS' ? FALLEN_OFF_BUS_XID : xidOf(fact);
		if (xid !== undefined) {
			record.incidents.take(fact, xid, evidence, isOldBoot);
			return;
		}
		if (isOldBoot) {
			const outcome = this.#rules.find(fact);
			if (outcome === undefined || outcome.clears.includes('boot') || outcome.clears.includes('well')) return;
		}
		if (fact.fact === 'RECOVERY_ACTION') {
			if (!isOldBoot) this.#driverAction(record, fact.after, fact, fact.raw);
			return;
		}
		for (const ended of this.#rules.endedBy(fact.fact)) record.wellKind(ended, atMs);
		const key = `${fact.fact}:${fact.code}:${fact.part}`;
		if (this.#rules.isWell(fact)) record.well(key, atMs);
		else this.#judge(record, key, fact, evidence);
	}

	#judge(record: SubjectRecord, key: string, fact: HealthObservation, evidence: Evidence): void {
		const rule = this.#rules.find(fact);
		if (rule === undefined) return;
		const { check, repeat, mildWhere } = rule;
		const isState = (rule.well !== undefined || rule.expected !== undefined) && repeat === undefined;
		const isOn = rule.well !== undefined || rule.expected !== undefined || rule.endedBy !== undefined;
		let outcome: Outcome = rule;
		const isMild = mildWhere !== undefined && fact.raw.toLowerCase().includes(mildWhere.toLowerCase());
		if (isMild && !isExpected(rule, fact.code)) outcome = asNote(rule);
		else if (repeat !== undefined) {
			const { count, withinMs } = repeat;
			const times = fact.isOngoing ? 0 : fact.count;
			if (record.count(key, evidence.observedAtMs, times, count, withinMs) < count) outcome = asNote(rule);
		}
		const { code, simulated } = fact;
		record.open({ key, check, code, outcome, evidence, simulated, isState, isOn });
	}

	/** Field 230: the driver's own word. Undefined and NaN: it says nothing. */
	#driverAction(
		record: SubjectRecord,
		action: number | undefined,
		{ atMs, bootId, simulated }: Observation & { bootId: string; simulated: boolean },
		raw: string,
	): void {
		if (action === undefined || Number.isNaN(action)) return;
		// Of nearly every sample: the driver asks for nothing, and never did.
		if (action === 0 && !record.hasHistory) return;
		record.incidents.driverSays(action, atMs);
		if (action === 0) {
			// Only a change to 0 is evidence: it was 0 all along where the driver never asked for anything.
			if (!record.has(DRIVER_KEY)) return;
			this.revision += 1;
			if (record.subject.kind === 'gpu') this.clear(record.subject, 'recovery_action', atMs);
			else record.clear('recovery_action', atMs, Number.POSITIVE_INFINITY);
			return;
		}
		const code = `${DRIVER_CODE}${action}`;
		const outcome = this.#driverOutcome(action);
		if (outcome === undefined || record.has(DRIVER_KEY, code)) return;
		this.revision += 1;
		const evidence: Evidence = { source: 'nvml', raw: raw === 'sample' ? code : raw, observedAtMs: atMs, bootId };
		record.open({
			key: DRIVER_KEY,
			check: DRIVER_CHECK,
			code,
			outcome,
			evidence,
			simulated,
			isState: true,
			isOn: true,
		});
	}

	#driverOutcome(action: number): Outcome | undefined {
		const known = this.#policy.recoveryActions.get(action) ?? this.#policy.xidClasses.get('hardware');
		return known && { ...known, clears: [...known.clears, 'recovery_action'] };
	}
}

const RATE_KEY = 'rate:';
const DRIVER_CODE = 'recovery_action:';
export const DRIVER_CHECK = 'driver.recovery_action';
const DRIVER_KEY = 'driver';
/** The kernel's own line about what the driver calls XID 79. */
const FALLEN_OFF_BUS_XID = 79;

/** The node has everything, a GPU its links and slices. */
function isWithin(inner: Subject, outer: Subject): boolean {
	if (outer.kind === 'node' || subjectKey(inner) === subjectKey(outer)) return true;
	return outer.kind === 'gpu' && (inner.gpu === outer.id || (inner.kind === 'nvlink' && inner.id === outer.id));
}

function xidOf({ fact, code }: HealthObservation): number | undefined {
	if (fact !== 'XID') return undefined;
	const xid = /^xid:(\d{1,5})$/.exec(code)?.[1];
	return xid === undefined ? undefined : Number(xid);
}
