import type { Clock } from '../../../kit/clock.ts';
import { KeyedBuckets } from '../../../kit/limits.ts';

/**
 * How many records a node may put into the audit log, which nobody can delete: `burst` at once and then one a second.
 * What is beyond is acknowledged and counted, and the counts are recorded, at most once a minute a node. One a process.
 */
export interface AgentAuditLimits {
	readonly burst: number;
	readonly perSecond: number;
}

export const AGENT_AUDIT_LIMITS_DEFAULT: AgentAuditLimits = Object.freeze({ burst: 100, perSecond: 1 });

export interface AgentAuditVerdict {
	/** How many of the facts, from the first on, become records. */
	readonly recorded: number;
	/** To be said in one summary record; 0: none now. */
	readonly suppressed: number;
	/** How many of these facts don't become records. */
	readonly skipped: number;
}

const NODES_MAX = 100_000;

export class AgentAuditLimit {
	readonly #facts: KeyedBuckets;
	readonly #summaries: KeyedBuckets;
	/** Not yet said in a summary. */
	readonly #suppressed = new Map<string, number>();

	constructor(clock: Clock, { burst, perSecond }: AgentAuditLimits = AGENT_AUDIT_LIMITS_DEFAULT) {
		this.#facts = new KeyedBuckets(clock, perSecond, burst, NODES_MAX);
		this.#summaries = new KeyedBuckets(clock, 1 / 60, 1, NODES_MAX);
	}

	judge(nodeId: string, facts: number): AgentAuditVerdict {
		let recorded = 0;
		while (recorded < facts && this.#facts.take(nodeId) === 0) recorded += 1;
		const skipped = facts - recorded;
		this.#count(nodeId, skipped);
		const suppressed = this.#suppressed.get(nodeId) ?? 0;
		if (suppressed === 0 || this.#summaries.take(nodeId) > 0) return { recorded, suppressed: 0, skipped };
		this.#suppressed.delete(nodeId);
		return { recorded, suppressed, skipped };
	}

	/** The unit failed: its facts come again and are judged anew, so that an outage of the store suppresses nothing. */
	restore(nodeId: string, { recorded, suppressed, skipped }: AgentAuditVerdict): void {
		this.#facts.giveBack(nodeId, recorded);
		if (suppressed > 0) this.#summaries.giveBack(nodeId, 1);
		this.#count(nodeId, suppressed - skipped);
	}

	#count(nodeId: string, facts: number): void {
		const sum = (this.#suppressed.get(nodeId) ?? 0) + facts;
		if (sum > 0) this.#suppressed.set(nodeId, sum);
		else this.#suppressed.delete(nodeId);
	}
}
