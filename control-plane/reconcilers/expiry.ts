import { every, type Timer } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { AppDeps } from '../app/deps.ts';
import { endTasks } from '../app/tasks/end-tasks.ts';
import { queueOver } from '../app/tasks/offer.ts';
import { type RequestContext, systemContext } from '../context.ts';
import type { TaskRow } from '../store/port/tasks.ts';

/**
 * Ends what has waited too long: queued tasks past their queue deadline, offers that no agent accepted, answers kept
 * for request ids. Takes no input, is idempotent, and does a bounded amount at a time. An offer past its lease isn't
 * taken back, because the agent may have it: the same envelope is sent again until the queue deadline, and then nobody
 * can say (`lost`).
 */
export interface ExpiryOptions {
	/** Default 1 s: a queue timeout is late by at most this. */
	readonly periodMs?: number;
	/** The node's offers outlived their lease: DispatchReconciler.resync. */
	readonly resync: (nodeId: string) => void;
}

const BATCH = 500;
const REQUEST_KEYS_PRUNE_MAX = 1000;

export class ExpiryReconciler implements AsyncDisposable {
	readonly #deps: AppDeps;
	readonly #options: ExpiryOptions;
	readonly #timer: Timer;
	#running: Promise<void> | undefined;

	constructor(deps: AppDeps, options: ExpiryOptions) {
		this.#deps = deps;
		this.#options = options;
		const onError = (error: unknown) => deps.log.error('expiry failed and is tried again', { error });
		const activate = () => {
			this.#running ??= this.once()
				.catch(onError)
				.finally(() => {
					this.#running = undefined;
				});
		};
		this.#timer = every(deps.clock, options.periodMs ?? 1000, activate, onError);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.#running;
	}

	/** One activation. */
	async once(): Promise<void> {
		const { clock, store, log, rng } = this.#deps;
		const nowMs = clock.now();
		const ctx = systemContext('reconciler/expiry', clock, log, uuidv7(nowMs, rng));
		const due = await store.read(function* (tx) {
			return {
				queued: yield* tx.tasks.listQueueExpired(nowMs, BATCH),
				leased: yield* tx.tasks.listLeaseExpired(nowMs, BATCH),
			};
		});
		await endTasks(this.#deps, due.queued, (task) => queueOver(task, nowMs));
		await this.#lookAgain(ctx, due.leased, nowMs);
		const pruned = await store.unit((tx) => tx.requestKeys.prune(nowMs, REQUEST_KEYS_PRUNE_MAX));
		if (pruned > 0) log.debug('forgot answers to old request ids', { count: pruned });
	}

	async #lookAgain(ctx: RequestContext, leased: readonly TaskRow[], nowMs: number): Promise<void> {
		const deps = this.#deps;
		const over = leased.filter((task) => task.queueDeadlineMs <= nowMs);
		await endTasks(deps, over, {
			state: 'lost',
			reason: 'LEASE_LOST',
			message: 'the task was sent to its node, which never said whether it came; if it did, its receipt replaces this',
		});
		const kept = leased.filter((task) => task.queueDeadlineMs > nowMs);
		if (kept.length === 0) return;
		const leaseUntilMs = nowMs + deps.limits.offerLeaseMs;
		await deps.store.unit(function* (tx) {
			for (const task of kept) yield* tx.tasks.update(task.id, { leaseUntilMs }, ['leased']);
		});
		const nodes = new Set(kept.map(({ nodeId }) => nodeId).filter((nodeId) => deps.sessions.isConnected(nodeId)));
		for (const nodeId of nodes) this.#options.resync(nodeId);
		if (nodes.size > 0) ctx.log.info('offers were not accepted in time and are sent again', { nodes: nodes.size });
	}
}
