import type { Timer } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { AppendAudit } from '../app/audit/event.ts';
import type { AppDeps } from '../app/deps.ts';
import { type RequestContext, systemContext } from '../context.ts';
import type { SessionRow } from '../store/port/sessions.ts';

/**
 * Declares nodes lost whose lease ran out. Takes no input; any number of replicas may run it. After a start of this
 * process it waits until every agent had time to come back: a restart of the control plane loses nobody.
 *
 * Tasks are settled before the session is marked: a crash in between settles them once more, which changes nothing.
 * The other order would leave them open for ever. An agent that comes back meanwhile has a newer epoch, and is not
 * marked; its receipts replace what was said of its tasks.
 */
export interface LeasesDeps {
	readonly app: AppDeps;
	readonly appendAudit: AppendAudit;
	/** app/tasks/lose-tasks.ts `loseTasksOfNode`. */
	readonly loseTasksOfNode: (app: AppDeps, ctx: RequestContext, nodeId: string) => Promise<unknown>;
	/** Not before this after the start, nor before two leases. */
	readonly lostGraceMs: number;
	readonly periodMs: number;
	readonly leaseTtlMs: () => number;
}

const EXPIRED_PER_RUN_MAX = 500;

export class LeaseReconciler {
	readonly #deps: LeasesDeps;
	readonly #startedAtMs: number;
	#timer: Timer | undefined;
	#closed = false;

	constructor(deps: LeasesDeps) {
		this.#deps = deps;
		this.#startedAtMs = deps.app.clock.monotonic();
	}

	start(): void {
		const { clock, log } = this.#deps.app;
		this.#timer = clock.setTimer(() => {
			this.runOnce()
				.catch((error: unknown) => log.warn('leases were not looked at; trying again', { error }))
				.finally(() => {
					if (!this.#closed) this.start();
				});
		}, this.#deps.periodMs);
	}

	stop(): void {
		this.#closed = true;
		this.#timer?.cancel();
	}

	/** Node ids that were declared lost. */
	async runOnce(): Promise<readonly string[]> {
		const { app, lostGraceMs, leaseTtlMs } = this.#deps;
		const graceMs = Math.max(lostGraceMs, 2 * leaseTtlMs());
		if (app.clock.monotonic() - this.#startedAtMs < graceMs) return [];
		const nowMs = await app.store.now();
		const expired = await app.store.read((tx) => tx.sessions.listExpired(nowMs, EXPIRED_PER_RUN_MAX));
		const lost: string[] = [];
		for (const session of expired) {
			// Heard of here: only its renewal is late, because the store is.
			if (app.sessions.isConnected(session.nodeId)) continue;
			if (await this.#lose(session)) lost.push(session.nodeId);
		}
		return lost;
	}

	async #lose({ nodeId, epoch }: SessionRow): Promise<boolean> {
		const { app, appendAudit, loseTasksOfNode } = this.#deps;
		const correlationId = uuidv7(app.clock.now(), app.rng);
		const ctx = systemContext('reconciler/leases', app.clock, app.log, correlationId);
		await loseTasksOfNode(app, ctx, nodeId);
		const nowMs = await app.store.now();
		const eventId = uuidv7(app.clock.now(), app.rng);
		const marked = await app.store.unit(function* (tx) {
			const isLost = yield* tx.sessions.markLost(nodeId, epoch, nowMs);
			if (!isLost) return false;
			const node = yield* tx.nodes.get(nodeId);
			yield* appendAudit(tx, ctx, {
				action: 'nodes.lost',
				target: `nodes/${nodeId}`,
				result: 'ok',
				reason: 'LEASE_LOST',
				...(node === undefined ? {} : { custody: node.custody }),
				detail: { epoch },
			});
			yield* tx.outbox.append({ id: eventId, topic: 'nodes.changed', key: nodeId, atMs: nowMs });
			return true;
		});
		if (!marked) return false;
		app.bus.publish({ topic: 'nodes.changed', key: nodeId });
		app.log.warn('node lost: its lease ran out', { node: nodeId, epoch });
		return true;
	}
}
