import type {
	HealthFactKind,
	HealthSource,
	HealthSubjectKind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { HealthFacts } from './health-facts.ts';

/**
 * Numbers that should stay as high as they were: links that are up, the speed of a port. What a model has is the
 * policy's to know; where it doesn't, the most that this very thing ever had is the measure, and what nearly all of its
 * kind on this host have. A fact has that as `before`, and says so where siblings alone are the measure: ports of one board
 * may be meant to differ. Well or not, each is told once by each agent, and again until the journal has it: whoever judges
 * may not have heard what the agent before this one saw.
 */
export interface Level {
	readonly id: string;
	readonly index: number;
	/** What it is, for the policy; things with one code are siblings. */
	readonly code: string;
	readonly value: number;
	/** It is low by its own word, whatever it had before. */
	readonly isShort: boolean;
	readonly raw: string;
}

export interface LevelWatchOptions {
	readonly facts: HealthFacts;
	readonly kind: HealthFactKind;
	readonly subject: HealthSubjectKind;
	readonly source: HealthSource;
	/** In the journal. */
	readonly kept: { readonly get: () => string | undefined; readonly put: (value: string) => void };
}

interface Known {
	readonly best: number;
}

/** More than a host has. */
const KNOWN_MAX = 512;
/** What three of four of at least three show is usual; where they differ more, nothing is. */
const SIBLINGS_MIN = 3;
const USUAL_SHARE = 0.75;
/** In the line of such a fact; the policy makes a note of it (`mildWhere`). */
const BY_SIBLINGS = 'measured by its siblings alone';

export class LevelWatch {
	readonly #options: LevelWatchOptions;
	readonly #known: Map<string, Known>;
	/** As this agent reported it last: value and measure. */
	readonly #told = new Map<string, string>();

	constructor(options: LevelWatchOptions) {
		this.#options = options;
		this.#known = knownOf(options.kept.get());
	}

	observe(levels: readonly Level[]): void {
		let isNews = false;
		for (const level of levels) {
			const key = `${level.id}/${level.index}`;
			const known = this.#known.get(key);
			const siblings = levels.filter(({ code }) => code === level.code).map(({ value }) => value);
			const best = Math.max(known?.best ?? 0, level.value);
			const before = Math.max(best, usualOf(siblings) ?? 0);
			const isBySiblings = level.value === best && best < before;
			const told = `${level.value}/${before}/${isBySiblings}`;
			const isFirst = !this.#told.has(key);
			if (told !== this.#told.get(key) && this.#report(level, before, isBySiblings, isFirst)) this.#told.set(key, told);
			if (best === known?.best) continue;
			this.#known.delete(key);
			this.#known.set(key, { best });
			isNews = true;
		}
		if (isNews) this.#keep();
	}

	#report(level: Level, before: number, isBySiblings: boolean, isOngoing: boolean): boolean {
		const { facts, kind, subject, source } = this.#options;
		const { id, index, code, value } = level;
		const raw = isBySiblings ? `${level.raw}; ${BY_SIBLINGS}` : level.raw;
		const on = { kind: subject, id, index };
		return facts.report({ kind, subject: on, source, code, raw, before, after: value, isOngoing });
	}

	#keep(): void {
		for (const oldest of this.#known.keys()) {
			if (this.#known.size <= KNOWN_MAX) break;
			this.#known.delete(oldest);
		}
		this.#options.kept.put(JSON.stringify([...this.#known]));
	}
}

export function usualOf(values: readonly number[]): number | undefined {
	if (values.length < SIBLINGS_MIN) return undefined;
	return values.find((value) => values.filter((other) => other === value).length >= values.length * USUAL_SHARE);
}

function knownOf(kept: string | undefined): Map<string, Known> {
	try {
		const entries: unknown = JSON.parse(kept ?? '[]');
		return new Map(Array.isArray(entries) ? entries.filter(isKnown) : []);
	} catch {
		return new Map();
	}
}

function isKnown(entry: unknown): entry is [string, Known] {
	if (!Array.isArray(entry) || typeof entry[0] !== 'string') return false;
	return typeof (entry[1] as Partial<Known> | null | undefined)?.best === 'number';
}
