import {
	type HealthFactKind,
	type HealthSource,
	HealthSubjectKind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { TelemetryMetric } from '../../proto/telemetry-schema/metric.ts';
import type { HealthFacts } from './health-facts.ts';
import type { CounterSpan, KeptCounters } from './kept-counters.ts';
import type { Part } from './part.ts';

/** One value of a table and when its change is a fact. */
export interface Watched {
	readonly key: string;
	/**
	 * state: it left or entered what is well; at first sight only when it isn't well, or was said not to be before. counter: it rose; at first sight when
	 * it isn't 0. rate: it rises by at least `RATE_MIN` a second, by ten times as much, or no more. change: it is another than before.
	 */
	readonly rule: 'state' | 'counter' | 'rate' | 'change';
	readonly well?: readonly number[];
	/** Only this bit of it counts, as 0 or 1. */
	readonly bit?: number;
	/** Of a state: bad at first sight is no fact, unless it was said to be bad before. */
	readonly isQuietAtFirst?: boolean;
	/** Of a counter: what an agent before this one told of it is not told again. */
	readonly span?: CounterSpan;
	readonly kind: HealthFactKind;
	readonly code: (value: number) => string;
	/** What the number means, where that is no riddle to whoever reads it. */
	readonly words?: (value: number) => string;
}

/** Corrected errors a second: one a second is 86,400 a day, far above what healthy memory shows. */
const RATE_MIN = 1;
/**
 * A rate is of no shorter time than a usual period (15 s, give or take its timers), however often samples come: a burst
 * must not be a storm because somebody looks.
 */
const RATE_WINDOW_MS = 14_000;
/** What it was when an agent before this one said that it was bad. */
const UNKNOWN_BEFORE = -1;

interface Kept {
	readonly value: number;
	readonly atMs: number;
	/** The highest since it is above the limit; 0: it is below. */
	readonly rate: number;
}

export class WatchedValues {
	readonly #facts: HealthFacts;
	readonly #watched: readonly (Watched & { readonly at: number })[];
	readonly #subject: HealthSubjectKind;
	readonly #source: HealthSource;
	/** The index of a link or a port is part of its name; that of a GPU moves. */
	readonly #hasIndex: boolean;
	readonly #kept = new Map<string, Kept>();
	readonly #counters: KeptCounters | undefined;

	constructor(
		facts: HealthFacts,
		watched: readonly Watched[],
		table: readonly TelemetryMetric[],
		subject: HealthSubjectKind,
		source: HealthSource,
		counters?: KeptCounters,
	) {
		const at = positions(table);
		this.#facts = facts;
		this.#watched = watched.map((one) => ({ ...one, at: at.get(one.key) ?? -1 }));
		this.#subject = subject;
		this.#hasIndex = subject === HealthSubjectKind.NVLINK || subject === HealthSubjectKind.NIC;
		this.#source = source;
		this.#counters = counters;
	}

	/** Things that are not among `parts` keep what was known of them: they may come back. `atMs`: monotonic clock. */
	observe(parts: readonly Part[], atMs: number): void {
		for (const part of parts)
			for (const [number, watched] of this.#watched.entries()) this.#one(part, watched, number, atMs);
	}

	#one(part: Part, watched: Watched & { readonly at: number }, number: number, atMs: number): void {
		const raw = part.values[watched.at] ?? Number.NaN;
		if (Number.isNaN(raw)) return;
		const value = watched.bit === undefined ? raw : (raw & watched.bit) === 0 ? 0 : 1;
		const key = `${part.id}/${this.#hasIndex ? part.index : 0}/${number}`;
		const name = `${this.#subject}/${part.id}/${this.#hasIndex ? part.index : 0}/${watched.key}/${watched.bit ?? ''}`;
		const seen = this.#kept.get(key);
		const former = seen ?? this.#before(watched, name, atMs);
		if (watched.rule === 'rate' && isWithinWindow(former, value, atMs)) return;
		const rate = watched.rule === 'rate' ? rateOf(former, value, atMs) : 0;
		this.#kept.set(key, { value, atMs, rate: rate < RATE_MIN ? 0 : Math.max(rate, former?.rate ?? 0) });
		const wasBad = former === undefined && watched.rule === 'state' && this.#facts.wasBad(name);
		const change = wasBad ? { before: UNKNOWN_BEFORE, after: value } : this.#change(watched, former, value, rate);
		if (change === undefined) {
			// It fell: what it shows from now on counts from there.
			if (former !== undefined && value < former.value) this.#keepCounter(watched, name, value);
			return;
		}
		const isSent = this.#facts.report({
			kind: watched.kind,
			subject: { kind: this.#subject, id: part.id, index: this.#hasIndex ? part.index : 0 },
			source: this.#source,
			code: watched.code(value),
			raw: watched.words?.(change.after) ?? `${watched.key} ${change.before} -> ${change.after}`,
			before: change.before,
			after: change.after,
			isOngoing: seen === undefined,
			...(watched.rule === 'state' ? { state: { name, isBad: watched.well?.includes(value) !== true } } : {}),
		});
		if (isSent) this.#keepCounter(watched, name, value);
	}

	/** As an agent before this one told it. */
	#before({ span }: Watched, name: string, atMs: number): Kept | undefined {
		const value = span && this.#counters?.get(name, span);
		return value === undefined ? undefined : { value, atMs, rate: 0 };
	}

	#keepCounter({ span }: Watched, name: string, value: number): void {
		if (span !== undefined) this.#counters?.put(name, span, value);
	}

	#change(
		{ rule, span, well = [], isQuietAtFirst = false }: Watched,
		former: Kept | undefined,
		value: number,
		rate: number,
	): { readonly before: number; readonly after: number } | undefined {
		const before = former?.value;
		switch (rule) {
			case 'state':
				if (before === undefined)
					return isQuietAtFirst || well.includes(value) ? undefined : { before: well[0] ?? 0, after: value };
				// From one good state to another is nothing; a bad one that turns into another bad one is.
				return before === value || (well.includes(before) && well.includes(value))
					? undefined
					: { before, after: value };
			case 'counter':
				// One that fell was reset, or came to its end and began anew: what it shows now was counted since. A disk's own
				// never does that: its firmware counts otherwise by now.
				if (before !== undefined && value < before && span === 'ever') return undefined;
				if (before !== undefined && value < before) return value > 0 ? { before: 0, after: value } : undefined;
				return value > (before ?? 0) ? { before: before ?? 0, after: value } : undefined;
			case 'rate': {
				if (former === undefined) return undefined;
				const [told, level] = [levelOf(former.rate), levelOf(rate)];
				return level > told || (level === 0 && told > 0) ? { before: former.rate, after: rate } : undefined;
			}
			case 'change':
				return before === undefined || before === value ? undefined : { before, after: value };
		}
	}
}

export function positions(table: readonly TelemetryMetric[]): ReadonlyMap<string, number> {
	return new Map(table.map(({ key }, index) => [key, index]));
}

/** 0 below the limit, one more at each power of ten. */
function levelOf(rate: number): number {
	return rate < RATE_MIN ? 0 : 1 + Math.floor(Math.log10(rate / RATE_MIN));
}

function isWithinWindow(former: Kept | undefined, value: number, atMs: number): boolean {
	return former !== undefined && value >= former.value && atMs - former.atMs < RATE_WINDOW_MS;
}

function rateOf(former: Kept | undefined, value: number, atMs: number): number {
	if (former === undefined || value < former.value || atMs <= former.atMs) return 0;
	return ((value - former.value) * 1000) / (atMs - former.atMs);
}
