import type { Clock } from '../../../kit/clock.ts';
import { KeyedBuckets } from '../../../kit/limits.ts';
import type { Fact } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * How many facts of a node become rows: `burst` at once and then `perHour`, each kind apart, so that one agent that is
 * broken or in wrong hands fills neither the store nor the audit log, and takes no time from the others. What is beyond is
 * acknowledged, so that receipts of tasks behind it still come, and counted; the counts are recorded, at most once a
 * minute a node. Of a batch the newest are kept. An honest agent stays far below: it sends 600 facts of health an hour at
 * most, and an inventory when something changed. One a process.
 */
export type BudgetedKind = 'health' | 'inventory';

export interface FactAllowance {
	readonly burst: number;
	readonly perHour: number;
}

export type FactBudgetLimits = Readonly<Record<BudgetedKind, FactAllowance>>;

export const FACT_BUDGET_DEFAULT: FactBudgetLimits = Object.freeze({
	health: { burst: 512, perHour: 600 },
	inventory: { burst: 30, perHour: 60 },
});

/** `audit`: what an agent said of itself and the audit log did not take. */
export type RefusedKind = BudgetedKind | 'audit';
export type RefusedCounts = Readonly<Partial<Record<RefusedKind, number>>>;

export interface FactVerdict {
	/** By number: these leave no row. */
	readonly refused: ReadonlySet<bigint>;
	readonly counts: RefusedCounts;
	/** To be said in one summary record; undefined: nothing, or not now. */
	readonly summary: RefusedCounts | undefined;
	/** Tokens that were taken, to be given back where the unit fails. */
	readonly taken: Readonly<Record<BudgetedKind, number>>;
}

/** What was refused of a node lately. */
export interface RefusedFacts {
	readonly kind: RefusedKind;
	readonly count: number;
	/** ms since the newest. */
	readonly ageMs: number;
}

const KINDS = ['health', 'inventory'] as const satisfies readonly BudgetedKind[];
const NODES_MAX = 100_000;
/** Nodes whose refusals are remembered: those that shout are few. */
const SHOWN_NODES_MAX = 10_000;

export class FactBudget {
	readonly #clock: Clock;
	readonly #buckets: Readonly<Record<BudgetedKind, KeyedBuckets>>;
	readonly #summaries: KeyedBuckets;
	/** Not yet said in a summary. */
	readonly #unsaid = new Map<string, RefusedCounts>();
	readonly #refused = new Map<string, Map<RefusedKind, { count: number; atMs: number }>>();
	readonly #totals = new Map<RefusedKind, number>();

	constructor(clock: Clock, limits: FactBudgetLimits = FACT_BUDGET_DEFAULT) {
		this.#clock = clock;
		const buckets = ({ burst, perHour }: FactAllowance) => new KeyedBuckets(clock, perHour / 3600, burst, NODES_MAX);
		this.#buckets = { health: buckets(limits.health), inventory: buckets(limits.inventory) };
		this.#summaries = new KeyedBuckets(clock, 1 / 60, 1, NODES_MAX);
	}

	/** `facts` in their order. Before the unit that stores them, which may run more than once. */
	judge(nodeId: string, facts: readonly Fact[]): FactVerdict {
		const refused = new Set<bigint>();
		const counts: Partial<Record<RefusedKind, number>> = {};
		const taken = { health: 0, inventory: 0 };
		for (const kind of KINDS) {
			// From the newest: what was said before it matters less.
			for (const { seq } of facts.filter(({ fact }) => fact.case === kind).toReversed()) {
				if (this.#buckets[kind].take(nodeId) === 0) taken[kind] += 1;
				else {
					refused.add(seq);
					counts[kind] = (counts[kind] ?? 0) + 1;
				}
			}
		}
		const unsaid = sum(this.#unsaid.get(nodeId) ?? {}, counts);
		const isSaid = Object.keys(unsaid).length > 0 && this.#summaries.take(nodeId) === 0;
		return { refused, counts, taken, summary: isSaid ? unsaid : undefined };
	}

	/** The unit is committed. */
	committed(nodeId: string, { counts, summary }: FactVerdict): void {
		this.note(nodeId, counts);
		if (summary !== undefined) this.#unsaid.delete(nodeId);
		else if (Object.keys(counts).length > 0) this.#unsaid.set(nodeId, sum(this.#unsaid.get(nodeId) ?? {}, counts));
	}

	/** The unit failed: its facts come again and are judged anew, so that an outage of the store refuses nothing. */
	restore(nodeId: string, { taken, summary }: FactVerdict): void {
		for (const kind of KINDS) this.#buckets[kind].giveBack(nodeId, taken[kind]);
		if (summary !== undefined) this.#summaries.giveBack(nodeId, 1);
	}

	/** For whoever looks: these were refused. */
	note(nodeId: string, counts: RefusedCounts): void {
		for (const [kind, count] of Object.entries(counts) as [RefusedKind, number][]) {
			if (count === 0) continue;
			this.#totals.set(kind, (this.#totals.get(kind) ?? 0) + count);
			let ofNode = this.#refused.get(nodeId);
			if (ofNode === undefined) {
				ofNode = new Map();
				this.#refused.set(nodeId, ofNode);
				for (const oldest of this.#refused.keys()) {
					if (this.#refused.size <= SHOWN_NODES_MAX) break;
					this.#refused.delete(oldest);
				}
			}
			ofNode.set(kind, { count: (ofNode.get(kind)?.count ?? 0) + count, atMs: this.#clock.monotonic() });
		}
	}

	/** Of the node since this replica started. */
	refusedOf(nodeId: string): readonly RefusedFacts[] {
		const nowMs = this.#clock.monotonic();
		return [...(this.#refused.get(nodeId) ?? [])].map(([kind, { count, atMs }]) => ({
			kind,
			count,
			ageMs: nowMs - atMs,
		}));
	}

	/** Of all nodes since this replica started. */
	get totals(): ReadonlyMap<RefusedKind, number> {
		return this.#totals;
	}

	/** The node was removed. */
	forget(nodeId: string): void {
		this.#refused.delete(nodeId);
		this.#unsaid.delete(nodeId);
	}
}

function sum(left: RefusedCounts, right: RefusedCounts): RefusedCounts {
	const all: Partial<Record<RefusedKind, number>> = { ...left };
	for (const [kind, count] of Object.entries(right) as [RefusedKind, number][]) all[kind] = (all[kind] ?? 0) + count;
	return all;
}
