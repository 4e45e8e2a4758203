import type { Timer } from '../../kit/clock.ts';
import { every } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { AppDeps } from '../app/deps.ts';
import { type ClaimResult, type ClaimWant, offerQueued, resend } from '../app/tasks/offer.ts';
import { type RequestContext, systemContext } from '../context.ts';

/**
 * Brings queued tasks to the agents that are connected to this replica. Takes no input and is idempotent: hints and a
 * timer only say that it may be time to look. Per node at most `offersInFlightPerNodeMax` tasks are claimed and not
 * started; the rest stays in the queue, where it can be cancelled at once. Invariant: an offer is sent only after its
 * claim and its documents are committed. The counts in memory are a cache of the store and are rebuilt from it.
 */
export interface DispatchOptions {
	/** How often everything is looked at without a hint. Default 5 s. */
	readonly sweepPeriodMs?: number;
}

const NODES_PER_PASS_MAX = 256;
const CLAIMS_PER_NODE_PASS_MAX = 128;

export class DispatchReconciler implements AsyncDisposable {
	readonly #deps: AppDeps;
	readonly #unsubscribe: (() => void)[];
	readonly #sweep: Timer;
	/** Nodes that may have something to claim. */
	readonly #dirty = new Set<string>();
	/** Nodes whose session must get everything again. */
	readonly #resync = new Set<string>();
	/** Nodes whose resync failed: tried again with the next sweep. */
	readonly #unsynced = new Set<string>();
	/** Claimed and not known to have started, by node. */
	readonly #leased = new Map<string, Set<string>>();
	readonly #nodeOf = new Map<string, string>();
	/** Nodes that had more in the queue than there was room for. */
	readonly #waiting = new Set<string>();
	#isSweepDue = true;
	#running: Promise<void> | undefined;
	#closed = false;

	constructor(deps: AppDeps, options: DispatchOptions = {}) {
		this.#deps = deps;
		this.#unsubscribe = [
			deps.bus.subscribe('tasks.queued', ({ key }) => this.#queued(key)),
			deps.bus.subscribe('tasks.changed', ({ key }) => this.#settled(key)),
		];
		const sweep = () => {
			this.#isSweepDue = true;
			this.#wake();
		};
		this.#sweep = every(deps.clock, options.sweepPeriodMs ?? 5000, sweep, () => {});
	}

	/** A session was welcomed: offers and cancels that it may have missed go out again. */
	onSessionOpen({ nodeId }: { readonly nodeId: string }): void {
		this.resync(nodeId);
	}

	/** Sends offers and cancels of this node again: its offers outlived their lease. */
	resync(nodeId: string): void {
		this.#resync.add(nodeId);
		this.#wake();
	}

	/** Resolves when nothing is left to do now; for tests and for draining. */
	async idle(): Promise<void> {
		while (this.#running !== undefined) await this.#running;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#closed = true;
		this.#sweep.cancel();
		for (const unsubscribe of this.#unsubscribe) unsubscribe();
		await this.idle();
	}

	#queued(nodeId: string): void {
		if (!this.#deps.sessions.isConnected(nodeId)) return;
		this.#dirty.add(nodeId);
		this.#wake();
	}

	#settled(taskId: string): void {
		const nodeId = this.#nodeOf.get(taskId);
		if (nodeId === undefined) return;
		this.#nodeOf.delete(taskId);
		const leased = this.#leased.get(nodeId);
		leased?.delete(taskId);
		// A full node is filled again a quarter at a time: one claim for each task that starts would cost a commit each.
		if (!this.#waiting.has(nodeId) || (leased?.size ?? 0) > this.#refillAt()) return;
		this.#waiting.delete(nodeId);
		this.#dirty.add(nodeId);
		this.#wake();
	}

	#refillAt(): number {
		return Math.floor((this.#deps.limits.offersInFlightPerNodeMax * 3) / 4);
	}

	#wake(): void {
		if (this.#closed || this.#running !== undefined) return;
		this.#running = this.#run().finally(() => {
			this.#running = undefined;
			if (this.#hasWork()) this.#wake();
		});
	}

	#hasWork(): boolean {
		return !this.#closed && (this.#isSweepDue || this.#resync.size > 0 || this.#dirty.size > 0);
	}

	async #run(): Promise<void> {
		const ctx = systemContext(
			'reconciler/dispatch',
			this.#deps.clock,
			this.#deps.log,
			uuidv7(this.#deps.clock.now(), this.#deps.rng),
		);
		while (this.#hasWork()) {
			try {
				if (this.#isSweepDue) await this.#sweepAll();
				for (const nodeId of take(this.#resync, NODES_PER_PASS_MAX)) await this.#resendOrLater(ctx, nodeId);
				await this.#claim(ctx);
			} catch (error) {
				// What was taken out of the sets comes back with the next sweep.
				ctx.log.error('dispatch failed and is tried again', { error });
				return;
			}
		}
	}

	async #sweepAll(): Promise<void> {
		this.#isSweepDue = false;
		for (const nodeId of take(this.#unsynced, Number.POSITIVE_INFINITY)) this.#resync.add(nodeId);
		const { sessions, store } = this.#deps;
		for (const nodeId of [...this.#leased.keys()]) if (!sessions.isConnected(nodeId)) this.#forget(nodeId);
		for (const nodeId of this.#waiting) this.#resync.add(nodeId);
		const queued = await store.read((tx) => tx.tasks.listNodesWithQueued(SWEEP_NODES_MAX));
		for (const nodeId of queued) if (sessions.isConnected(nodeId)) this.#dirty.add(nodeId);
	}

	/** A node for which it fails holds up no other. */
	async #resendOrLater(ctx: RequestContext, nodeId: string): Promise<void> {
		try {
			await this.#resend(nodeId);
		} catch (error) {
			ctx.log.error('offers were not sent again; they are with the next sweep', { node: nodeId, error });
			this.#unsynced.add(nodeId);
		}
	}

	async #resend(nodeId: string): Promise<void> {
		if (!this.#deps.sessions.isConnected(nodeId)) return this.#forget(nodeId);
		const { leased, isSent } = await resend(this.#deps, nodeId);
		this.#forget(nodeId);
		this.#count(nodeId, leased);
		if (!isSent) this.#waiting.add(nodeId);
		this.#dirty.add(nodeId);
	}

	async #claim(ctx: RequestContext): Promise<void> {
		const wants = take(this.#dirty, NODES_PER_PASS_MAX).flatMap((nodeId) => {
			if (!this.#deps.sessions.isConnected(nodeId)) return [];
			const room = this.#deps.limits.offersInFlightPerNodeMax - (this.#leased.get(nodeId)?.size ?? 0);
			if (room <= 0) this.#waiting.add(nodeId);
			return room <= 0 ? [] : [{ nodeId, limit: Math.min(room, CLAIMS_PER_NODE_PASS_MAX) }];
		});
		if (wants.length === 0) return;
		for (const { nodeId, isFull, isSent } of await this.#offer(ctx, wants)) {
			if (isFull) this.#dirty.add(nodeId);
			if (!isSent) this.#waiting.add(nodeId);
		}
	}

	/** Together, since a commit is for many nodes; where that fails each alone, so that one holds up no other. */
	async #offer(ctx: RequestContext, wants: readonly ClaimWant[]): Promise<readonly ClaimResult[]> {
		try {
			return await offerQueued(this.#deps, ctx, wants, (nodeId, ids) => this.#count(nodeId, ids));
		} catch (error) {
			const node = wants.length === 1 ? wants[0]?.nodeId : undefined;
			ctx.log.error('tasks were not offered', { error, ...(node === undefined ? { nodes: wants.length } : { node }) });
			if (node !== undefined) return [];
		}
		const claimed: ClaimResult[] = [];
		for (const want of wants) claimed.push(...(await this.#offer(ctx, [want])));
		return claimed;
	}

	#count(nodeId: string, taskIds: readonly string[]): void {
		let leased = this.#leased.get(nodeId);
		if (leased === undefined) {
			leased = new Set();
			this.#leased.set(nodeId, leased);
		}
		for (const taskId of taskIds) {
			leased.add(taskId);
			this.#nodeOf.set(taskId, nodeId);
		}
	}

	#forget(nodeId: string): void {
		for (const taskId of this.#leased.get(nodeId) ?? []) this.#nodeOf.delete(taskId);
		this.#leased.delete(nodeId);
		this.#waiting.delete(nodeId);
	}
}

/** More nodes with queued tasks than that wait for the next sweep or a hint. */
const SWEEP_NODES_MAX = 10_000;

function take(set: Set<string>, countMax: number): string[] {
	const taken: string[] = [];
	for (const item of set) {
		if (taken.length >= countMax) break;
		taken.push(item);
		set.delete(item);
	}
	return taken;
}
