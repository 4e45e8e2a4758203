import { addEvidence, type Finding, isNote } from './finding.ts';
import type { HealthObservation } from './observation.ts';
import type { Outcome, Policy, XidClass } from './policy.ts';
import type { Clearing, Evidence, Subject } from './verdict.ts';

/**
 * XIDs of one GPU. They come in bursts: what follows within `burstMs` belongs to one incident, which its severest code
 * speaks for, in whatever order they came. What an incident means is worked out anew each time from all that is known:
 * the table, the driver's own recovery action, which wins over the table, and the GPU's history, which can only make it
 * worse.
 */
interface Incident {
	startedMs: number;
	lastMs: number;
	readonly bootId: string;
	/** True: each line with this code said that it isn't fatal. */
	readonly codes: Map<number, boolean>;
	readonly tenants: Set<string>;
	evidence: readonly Evidence[];
	simulated: boolean;
	/** The driver's recovery action that came with it; 0 none. */
	driverAction: number;
	clearedBy: Clearing | undefined;
}

export interface SavedIncidents {
	readonly incidents: readonly {
		readonly startedMs: number;
		readonly lastMs: number;
		readonly bootId: string;
		readonly codes: readonly (readonly [code: number, isMild: boolean])[];
		readonly tenants: readonly string[];
		readonly evidence: readonly Evidence[];
		readonly simulated: boolean;
		readonly driverAction: number;
		readonly clearedBy: Clearing | null;
	}[];
	readonly driverAction: number;
	readonly tenantsFromMs: number | null;
}

interface JudgedIncident {
	readonly incident: Incident;
	readonly finding: Finding;
}

const NONE: readonly Finding[] = [];
/** More than a GPU has in a history that decides anything. */
const INCIDENTS_MAX = 64;
const TENANTS_MAX = 16;

export class Incidents {
	readonly #policy: Policy;
	readonly #subject: Subject;
	#incidents: Incident[] = [];
	#driverAction = 0;
	/** App-class incidents up to here are settled. */
	#tenantsFromMs = Number.NEGATIVE_INFINITY;

	constructor(policy: Policy, subject: Subject) {
		this.#policy = policy;
		this.#subject = subject;
	}

	/** `isOldBoot`: it comes late, after another boot: history, unless a boot doesn't end it. */
	take(observation: HealthObservation, code: number, evidence: Evidence, isOldBoot: boolean): void {
		const { burstMs } = this.#policy.thresholds;
		const atMs = evidence.observedAtMs;
		const touches = (incident: Incident) =>
			incident.bootId === observation.bootId &&
			incident.clearedBy === undefined &&
			atMs >= incident.startedMs - burstMs &&
			atMs <= incident.lastMs + burstMs;
		const joined = this.#incidents.filter(touches);
		const incident = joined[0] ?? this.#begin(observation, atMs);
		for (const other of joined.slice(1)) this.#merge(incident, other);
		incident.startedMs = Math.min(incident.startedMs, atMs);
		incident.lastMs = Math.max(incident.lastMs, atMs);
		incident.codes.set(code, (incident.codes.get(code) ?? true) && this.#isMild(code, observation.raw));
		incident.evidence = addEvidence(incident.evidence, evidence);
		incident.simulated ||= observation.simulated;
		if (observation.tenant !== undefined && incident.tenants.size < TENANTS_MAX)
			incident.tenants.add(observation.tenant);
		this.#incidents.sort((left, right) => left.startedMs - right.startedMs);
		if (isOldBoot && this.#outcomeOf(incident).clears.includes('boot')) incident.clearedBy = 'boot';
	}

	/** The driver's recovery action is now this; it counts for incidents that are open around that time. */
	driverSays(action: number, atMs: number): void {
		this.#driverAction = action;
		if (action === 0) return;
		for (const incident of this.#incidents)
			if (incident.clearedBy === undefined && atMs <= incident.lastMs + this.#policy.thresholds.burstMs)
				incident.driverAction = action;
	}

	/** True: something was ended. */
	clear(clearing: Clearing, atMs: number, shownAtMs: number): boolean {
		let isCleared = false;
		if (clearing !== 'diagnostic_passed') this.#driverAction = 0;
		for (const { incident, finding } of this.#judged()) {
			if (incident.clearedBy !== undefined || isNote(finding.outcome) || incident.lastMs > shownAtMs) continue;
			if (clearing !== 'serviced' && !finding.outcome.clears.includes(clearing)) continue;
			incident.clearedBy = clearing;
			isCleared = true;
		}
		const settles = clearing === 'serviced' || this.#class('two_tenants').clears.includes(clearing);
		if (settles && this.#tenantsFinding(atMs) !== undefined) {
			this.#tenantsFromMs = atMs;
			isCleared = true;
		}
		return isCleared;
	}

	get isEmpty(): boolean {
		return this.#incidents.length === 0 && this.#driverAction === 0;
	}

	save(): SavedIncidents {
		const incidents = this.#incidents.map(({ codes, tenants, clearedBy = null, ...rest }) => ({
			...rest,
			codes: [...codes],
			tenants: [...tenants],
			clearedBy,
		}));
		return { incidents, driverAction: this.#driverAction, tenantsFromMs: this.#tenantsFromMs };
	}

	restore(saved: SavedIncidents): void {
		this.#incidents = saved.incidents.map(({ codes, tenants, clearedBy, ...rest }) => ({
			...rest,
			codes: new Map(codes),
			tenants: new Set(tenants),
			clearedBy: clearedBy ?? undefined,
		}));
		this.#driverAction = saved.driverAction;
		this.#tenantsFromMs = saved.tenantsFromMs ?? Number.NEGATIVE_INFINITY;
	}

	findings(atMs: number): readonly Finding[] {
		if (this.#incidents.length === 0) return NONE;
		const open = this.#judged().filter(({ incident }) => incident.clearedBy === undefined);
		const kept = open
			.map(({ finding }) => finding)
			.filter(({ outcome, lastMs }) => !isNote(outcome) || atMs - lastMs <= this.#policy.thresholds.noteMs);
		const tenants = this.#tenantsFinding(atMs);
		return tenants === undefined ? kept : [...kept, tenants];
	}

	#begin({ bootId }: HealthObservation, atMs: number): Incident {
		const incident: Incident = {
			startedMs: atMs,
			lastMs: atMs,
			bootId,
			codes: new Map(),
			tenants: new Set(),
			evidence: [],
			simulated: false,
			driverAction: this.#driverAction,
			clearedBy: undefined,
		};
		if (this.#incidents.length >= INCIDENTS_MAX) this.#forgetOne();
		this.#incidents.push(incident);
		return incident;
	}

	/** One that is over, else the mildest: a flood must not push out what holds a state. */
	#forgetOne(): void {
		const weight = (incident: Incident) =>
			incident.clearedBy !== undefined ? 0 : 1 + this.#rankOf(this.#speaker(incident).name);
		const victim = this.#incidents.reduce((mildest, one) => (weight(one) < weight(mildest) ? one : mildest));
		this.#incidents = this.#incidents.filter((incident) => incident !== victim);
	}

	#merge(into: Incident, other: Incident): void {
		for (const [code, isMild] of other.codes) into.codes.set(code, (into.codes.get(code) ?? true) && isMild);
		for (const tenant of other.tenants) if (into.tenants.size < TENANTS_MAX) into.tenants.add(tenant);
		for (const one of other.evidence) into.evidence = addEvidence(into.evidence, one);
		into.startedMs = Math.min(into.startedMs, other.startedMs);
		into.lastMs = Math.max(into.lastMs, other.lastMs);
		into.simulated ||= other.simulated;
		into.driverAction ||= other.driverAction;
		this.#incidents = this.#incidents.filter((incident) => incident !== other);
	}

	#class(name: string): XidClass {
		const found = this.#policy.xidClasses.get(name) ?? this.#policy.xidClasses.get('unlisted');
		if (found === undefined) throw new TypeError('a policy without the class "unlisted" passed its checks');
		return found;
	}

	#rankOf(name: string): number {
		return this.#class(name).rank;
	}

	#isMild(code: number, raw: string): boolean {
		const { mildWhere } = this.#class(this.#policy.xids.get(code) ?? 'unlisted');
		return mildWhere !== undefined && raw.toLowerCase().includes(mildWhere.toLowerCase());
	}

	/** The code that speaks for it; of two of one class the lower. */
	#speaker({ codes }: Incident): { readonly code: number; readonly name: string } {
		let best = { code: Number.POSITIVE_INFINITY, name: '', rank: Number.NEGATIVE_INFINITY };
		for (const [code, isMild] of codes) {
			const name = isMild ? 'note' : (this.#policy.xids.get(code) ?? 'unlisted');
			const rank = this.#rankOf(name);
			if (rank > best.rank || (rank === best.rank && code < best.code)) best = { code, name, rank };
		}
		return best;
	}

	#outcomeOf(incident: Incident): Outcome {
		const driver = this.#policy.recoveryActions.get(incident.driverAction);
		return driver ?? this.#class(this.#speaker(incident).name);
	}

	#judged(): readonly JudgedIncident[] {
		const { resetAgainMs, rebootsMax, rebootsWithinMs } = this.#policy.thresholds;
		const before: { code: number; atMs: number; isReset: boolean; isReboot: boolean }[] = [];
		return this.#incidents.map((incident) => {
			const { code } = this.#speaker(incident);
			const base = this.#outcomeOf(incident);
			const atMs = incident.startedMs;
			const isReset = base.actions.includes('RESET_GPU');
			const isAgain = before.some((one) => one.isReset && one.code === code && atMs - one.atMs <= resetAgainMs);
			let outcome = isReset && isAgain ? this.#class('reset_again') : base;
			const isReboot = outcome.actions.includes('REBOOT_NODE');
			const reboots = before.filter((one) => one.isReboot && atMs - one.atMs <= rebootsWithinMs).length;
			if (isReboot && reboots >= rebootsMax) outcome = this.#class('hardware');
			before.push({ code, atMs, isReset, isReboot });
			return { incident, finding: this.#finding(incident, code, outcome, outcome !== base) };
		});
	}

	#finding(incident: Incident, code: number, outcome: Outcome, isInferred: boolean): Finding {
		const { startedMs: sinceMs, lastMs, evidence, simulated } = incident;
		const subject = this.#subject;
		return {
			subject,
			check: 'xid',
			code: `xid:${code}`,
			outcome,
			sinceMs,
			lastMs,
			evidence,
			simulated,
			isInferred,
			isOn: false,
		};
	}

	/** A program's fault, until programs of several tenants have it on the same GPU. */
	#tenantsFinding(atMs: number): Finding | undefined {
		const { tenants: tenantsMin, tenantsWithinMs } = this.#policy.thresholds;
		const mine = this.#incidents.filter(
			(incident) =>
				incident.startedMs > this.#tenantsFromMs &&
				incident.driverAction === 0 &&
				this.#class(this.#speaker(incident).name).actions.includes('RESTART_APP'),
		);
		for (const last of mine.toReversed()) {
			const within = mine.filter(
				({ startedMs }) => startedMs <= last.startedMs && last.startedMs - startedMs <= tenantsWithinMs,
			);
			if (new Set(within.flatMap(({ tenants }) => [...tenants])).size < tenantsMin) continue;
			return {
				subject: this.#subject,
				check: 'xid.tenants',
				code: '',
				outcome: this.#class('two_tenants'),
				sinceMs: Math.min(last.startedMs, atMs),
				lastMs: last.lastMs,
				evidence: within.flatMap(({ evidence }) => evidence.slice(0, 1)).slice(-8),
				simulated: within.some(({ simulated }) => simulated),
				isInferred: true,
				isOn: false,
			};
		}
		return undefined;
	}
}
