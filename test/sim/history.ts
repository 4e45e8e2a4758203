import { equals } from '@bufbuild/protobuf';
import {
	type ConnectRequest,
	type ConnectResponse,
	type Fact,
	FactSchema,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * What outsiders saw, for the checkers: answers that operators got, frames that passed, programs that began. Nothing
 * here comes from the records of those who are checked.
 */
export interface Violation {
	readonly checker: Checker;
	readonly message: string;
	readonly atMs: number;
}

export const CHECKERS = [
	'nothing-acknowledged-is-lost',
	'quotas-count-what-is-open',
	'nothing-runs-twice',
	'one-session-per-node',
	'audit-intact',
	'one-receipt-per-attempt',
	'everything-ends',
	'nothing-goes-back',
	'no-open-resources',
	'no-bugs',
	'one-trace-per-seed',
] as const;

export type Checker = (typeof CHECKERS)[number];

export interface Finished {
	/** Hex of the receipts that the agent sent for one attempt: there may be one. */
	readonly receipts: Set<string>;
	readonly node: string;
}

/** The longest from a launch to the beginning of its program. */
const LAUNCH_MS = 100;

export class History {
	readonly violations: Violation[] = [];
	/** Task ids that CreateTask answered with. */
	readonly created = new Map<string, { readonly nodeId: string; readonly requestId: string }>();
	/** Cancels that were answered with ok. */
	readonly cancelled = new Map<string, number>();
	/** By `task/attempt`: on which node, how often. */
	readonly executions = new Map<string, { readonly node: string; count: number }>();
	readonly finished = new Map<string, Finished>();
	/** Attempts that the agent said it refused. */
	readonly refused = new Set<string>();
	/** By node: the highest fact that the agent was told is committed. */
	readonly factAcks = new Map<string, bigint>();
	/** By node and number: what the fact said. */
	readonly facts = new Map<string, Fact>();
	/** Attempts that began before their node's journal was lost. */
	readonly unanswerable = new Set<string>();
	/** When each node last lost its journal. */
	readonly #journalsLost = new Map<string, number>();
	/** Notes whose signature was found right. */
	readonly signedHeads = new Set<string>();
	readonly #now: () => number;

	constructor(now: () => number) {
		this.#now = now;
	}

	violate(checker: Checker, message: string): void {
		// One of each is enough to fail a seed, and one bug may show a thousand times.
		if (this.violations.filter((known) => known.checker === checker).length >= 5) return;
		this.violations.push({ checker, message, atMs: this.#now() });
	}

	onExecution(node: string, taskId: string, attempt: number): void {
		const key = `${taskId}/${attempt}`;
		// Its launch was on the way to the host when the agent died.
		if (this.#now() - (this.#journalsLost.get(node) ?? Number.NEGATIVE_INFINITY) < LAUNCH_MS)
			this.unanswerable.add(key);
		const known = this.executions.get(key);
		if (known === undefined) this.executions.set(key, { node, count: 1 });
		else known.count += 1;
	}

	/**
	 * What only this journal knew is nobody's any more: its numbers begin again, and attempts that it held may end
	 * without a receipt, or with a second one. That nothing runs twice holds all the same.
	 */
	onJournalLost(node: string): void {
		this.#journalsLost.set(node, this.#now());
		this.factAcks.delete(node);
		for (const key of [...this.facts.keys()]) if (key.startsWith(`${node}/`)) this.facts.delete(key);
		for (const [key, executed] of this.executions) if (executed.node === node) this.unanswerable.add(key);
		for (const [key, finished] of this.finished) if (finished.node === node) this.unanswerable.add(key);
	}

	get journalsLost(): number {
		return this.#journalsLost.size;
	}

	/** The agent sent it, whether or not it arrives. */
	onUp(node: string, { message }: ConnectRequest): void {
		if (message.case === 'fact') this.#onFact(node, message.value);
		else if (message.case === 'facts') for (const fact of message.value.facts) this.#onFact(node, fact);
		// A refusal that a full disk kept from its journal.
		else if (message.case === 'taskDeclined') this.refused.add(`${message.value.taskId}/${message.value.attempt}`);
	}

	#onFact(node: string, sent: Fact): void {
		const { fact, seq } = sent;
		const key = `${node}/${seq}`;
		const before = this.facts.get(key);
		if (before !== undefined && !equals(FactSchema, before, sent))
			this.violate('nothing-acknowledged-is-lost', `${node} sent two different facts as number ${seq}`);
		this.facts.set(key, sent);
		if (fact.case === 'taskRefused') this.refused.add(`${fact.value.taskId}/${fact.value.attempt}`);
		if (fact.case !== 'taskFinished') return;
		const { taskId, attempt, receipt } = fact.value;
		const name = `${taskId}/${attempt}`;
		let finished = this.finished.get(name);
		if (finished === undefined) {
			finished = { receipts: new Set(), node };
			this.finished.set(name, finished);
		}
		const signature = receipt?.signatures[0]?.sig ?? new Uint8Array();
		finished.receipts.add(
			`${Buffer.from(receipt?.payload ?? []).toString('hex')}.${Buffer.from(signature).toString('hex')}`,
		);
	}

	/** The agent got it. */
	onDown(node: string, { message }: ConnectResponse): void {
		const acked =
			message.case === 'factAck' ? message.value : message.case === 'welcome' ? message.value.factAck : undefined;
		if (acked !== undefined && acked > (this.factAcks.get(node) ?? 0n)) this.factAcks.set(node, acked);
	}
}
