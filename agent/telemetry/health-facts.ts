import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Clock, Timer } from '../../kit/clock.ts';
import type { Logger } from '../../kit/log.ts';
import {
	HealthFactKind,
	type HealthFactSchema,
	HealthSource,
	HealthSubjectKind,
	type InjectedFault,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/**
 * Facts about health on their way to the journal. The first of its kind goes at once; what repeats within a minute is
 * counted and sent as one at its end; and however many kinds there are, an hour holds a bounded number of facts: the
 * rest is counted too. What a wedged machine shouts can't fill the journal that tasks need.
 */
export type HealthFactInit = MessageInitShape<typeof HealthFactSchema>;

export interface Observation {
	readonly kind: HealthFactKind;
	readonly subject?: { readonly kind: HealthSubjectKind; readonly id: string; readonly index?: number };
	readonly source: HealthSource;
	readonly code?: string;
	readonly raw?: string;
	readonly before?: number;
	readonly after?: number;
	/** Wall clock; default now. */
	readonly observedAtMs?: number;
	/** A state that lasts, found when the agent started. */
	readonly isOngoing?: boolean;
	/** Of a state: its name, and whether it is bad. What was said to be bad is said to be well again, also by the next agent. */
	readonly state?: { readonly name: string; readonly isBad: boolean };
}

export interface HealthFactsOptions {
	readonly clock: Clock;
	readonly bootId: string;
	/** Into the journal. */
	readonly append: (fact: HealthFactInit) => void;
	readonly log: Logger;
	readonly isSimulated: () => boolean;
	/** Kept in the journal: names of states that were said to be bad. Absent: forgotten with this process. */
	readonly bad?: { readonly get: () => string | undefined; readonly put: (value: string) => void };
}

const REPEAT_MS = 60_000;
const HOUR_MS = 3_600_000;
const FACTS_PER_HOUR_MAX = 600;
/** Different facts that are counted at once. */
const REPEATS_MAX = 1000;
const RAW_LENGTH_MAX = 1000;
/** More than a machine has that is wrong at once and was not said to be well; past it the oldest are forgotten. */
const BAD_MAX = 512;

interface Repeat {
	last: Observation;
	count: number;
}

export class HealthFacts implements Disposable {
	readonly #options: HealthFactsOptions;
	readonly #repeats = new Map<string, Repeat>();
	#timers = new Set<Timer>();
	#hourStartedAtMs = Number.NEGATIVE_INFINITY;
	#sentInHour = 0;
	#suppressed = 0;
	#suppressedEver = 0;
	readonly #bad: Set<string>;
	/** States that the journal or the hour's bound did not take, as they were seen last, by name: said when there is room. */
	readonly #owed = new Map<string, Observation>();
	#owedTimer: Timer | undefined;

	constructor(options: HealthFactsOptions) {
		this.#options = options;
		this.#bad = new Set(namesOf(options.bad?.get()));
	}

	/** This agent, or one before it, said that this state is bad, and nobody that it is well. */
	wasBad(name: string): boolean {
		return this.#bad.has(name);
	}

	/** Those of them whose name begins so. */
	badNames(prefix: string): readonly string[] {
		return [...this.#bad].filter((name) => name.startsWith(prefix));
	}

	/** Facts that were never sent, since the agent started. */
	get suppressed(): number {
		return this.#suppressedEver;
	}

	/** Whether it is in the journal. Counted only, or suppressed: it is lost if the agent ends now. */
	report(observation: Observation): boolean {
		const key = keyOf(observation);
		this.#supersede(key, observation.state?.name);
		const repeat = this.#repeats.get(key);
		if (repeat !== undefined) {
			repeat.last = observation;
			repeat.count += 1;
			return false;
		}
		const isSent = this.#send(observation, 1);
		if (this.#repeats.size >= REPEATS_MAX) return isSent;
		this.#repeats.set(key, { last: observation, count: 0 });
		const timer = this.#options.clock.setTimer(() => {
			this.#timers.delete(timer);
			this.#settle(key);
		}, REPEAT_MS);
		this.#timers.add(timer);
		return isSent;
	}

	/** Something that is not so: as it goes with what is, and marked. Throws when the journal does not take it. */
	inject(injection: string, { kind, subject, code, before, after }: InjectedFault, endsAtMs: number): void {
		const { clock, bootId, append } = this.#options;
		append({
			kind,
			...(subject === undefined ? {} : { subject }),
			source: kind === HealthFactKind.XID || kind === HealthFactKind.SXID ? HealthSource.KMSG : HealthSource.NVML,
			observedAt: timestampFromMs(clock.now()),
			bootId,
			code,
			raw: `injected fault, no real one (task ${injection})`,
			before,
			after,
			count: 1,
			simulated: true,
			injection,
			injectionEndsAt: timestampFromMs(endsAtMs),
		});
	}

	#keepState(state: Observation['state']): void {
		if (state === undefined || this.#bad.has(state.name) === state.isBad) return;
		if (state.isBad) this.#bad.add(state.name);
		else this.#bad.delete(state.name);
		for (const oldest of this.#bad) {
			if (this.#bad.size <= BAD_MAX) break;
			this.#bad.delete(oldest);
		}
		try {
			this.#options.bad?.put(JSON.stringify([...this.#bad]));
		} catch (error) {
			this.#options.log.error('what is wrong was not kept for the next start of the agent', { error });
		}
	}

	/** What was counted is sent: it would be lost. */
	[Symbol.dispose](): void {
		for (const timer of this.#timers) timer.cancel();
		this.#timers = new Set();
		this.#owedTimer?.cancel();
		for (const key of [...this.#repeats.keys()]) this.#settle(key);
	}

	#settle(key: string): void {
		const repeat = this.#repeats.get(key);
		this.#repeats.delete(key);
		if (repeat !== undefined && repeat.count > 0) this.#send(repeat.last, repeat.count);
	}

	/** What was counted of a state that is another by now must not be said after it. */
	#supersede(key: string, name: string | undefined): void {
		if (name === undefined) return;
		for (const [other, repeat] of this.#repeats) {
			if (other === key || repeat.last.state?.name !== name) continue;
			this.#suppress(repeat.count);
			repeat.count = 0;
		}
	}

	/** What is bad is kept before it is said, what is well after: an end between the two makes it said twice, never not. */
	#send(observation: Observation, count: number): boolean {
		const { state } = observation;
		if (state?.isBad === true && this.#hasRoom()) this.#keepState(state);
		const isSent = this.#append(observation, count);
		if (state === undefined) return isSent;
		this.#owed.delete(state.name);
		if (!isSent) this.#owe(state.name, observation);
		else if (!state.isBad) this.#keepState(state);
		return isSent;
	}

	#owe(name: string, observation: Observation): void {
		if (this.#owed.size >= BAD_MAX) return;
		this.#owed.set(name, observation);
		this.#owedTimer ??= this.#options.clock.setTimer(() => {
			this.#owedTimer = undefined;
			this.#payOwed();
		}, REPEAT_MS);
	}

	/** The first that is not taken ends it: it is owed again, and the rest still. */
	#payOwed(): void {
		for (const [name, observation] of [...this.#owed]) {
			if (this.#hasRoom() && this.#send(observation, 1)) continue;
			this.#owe(name, observation);
			return;
		}
	}

	#append(observation: Observation, count: number): boolean {
		const { clock, bootId, append, isSimulated, log } = this.#options;
		if (!this.#isAllowed(count)) return false;
		const { kind, source, code = '', raw = '', before = 0, after = 0, isOngoing: ongoing = false } = observation;
		const { subject = { kind: HealthSubjectKind.NODE, id: '' }, observedAtMs = clock.now() } = observation;
		const fact: HealthFactInit = {
			kind,
			subject: { kind: subject.kind, id: subject.id, index: subject.index ?? 0 },
			source,
			observedAt: timestampFromMs(observedAtMs),
			bootId,
			code,
			raw: raw.slice(0, RAW_LENGTH_MAX),
			before,
			after,
			count,
			suppressed: this.#suppressed,
			simulated: isSimulated(),
			ongoing,
		};
		try {
			append(fact);
			this.#suppressed = 0;
			return true;
		} catch (error) {
			// A journal that takes nothing: counted, and said with the next that it takes.
			this.#suppress(count);
			log.error('a health fact was not kept', { code, raw, error });
			return false;
		}
	}

	#hasRoom(): boolean {
		const isNewHour = this.#options.clock.monotonic() - this.#hourStartedAtMs >= HOUR_MS;
		return isNewHour || this.#sentInHour < FACTS_PER_HOUR_MAX;
	}

	#isAllowed(count: number): boolean {
		const nowMs = this.#options.clock.monotonic();
		if (nowMs - this.#hourStartedAtMs >= HOUR_MS) {
			this.#hourStartedAtMs = nowMs;
			this.#sentInHour = 0;
		}
		this.#sentInHour += 1;
		if (this.#sentInHour <= FACTS_PER_HOUR_MAX) return true;
		this.#suppress(count);
		return false;
	}

	#suppress(count: number): void {
		this.#suppressed += count;
		this.#suppressedEver += count;
	}
}

function namesOf(kept: string | undefined): readonly string[] {
	try {
		const names: unknown = JSON.parse(kept ?? '[]');
		return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
	} catch {
		return [];
	}
}

function keyOf({ kind, subject, code, source }: Observation): string {
	return [kind, source, subject?.kind, subject?.id, subject?.index, code].join('/');
}
