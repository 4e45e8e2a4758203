import { every, type Timer } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { HEALTH_TOPIC } from '../app/health/commit.ts';
import { HealthMonitor, type MonitorDeps } from '../app/health/monitor.ts';
import { HEALTH_RECORD_TOPIC } from '../app/health/record-evidence.ts';
import { systemContext } from '../context.ts';

/**
 * Lets the health monitor of this replica work, and ends overrides whose time is over. Takes no input; what replicas do
 * twice is done once, because each row is fenced.
 */
export interface NodeHealthOptions {
	/** Default 1 s: a verdict is late by at most this. */
	readonly periodMs?: number;
}

const EXPIRED_AT_ONCE = 100;

export class NodeHealthReconciler implements AsyncDisposable {
	readonly monitor: HealthMonitor;
	readonly #deps: MonitorDeps;
	readonly #timer: Timer;
	readonly #unlisten: readonly (() => void)[];
	#running: Promise<void> | undefined;

	constructor(deps: MonitorDeps, options: NodeHealthOptions = {}) {
		this.#deps = deps;
		this.monitor = new HealthMonitor(deps);
		this.#unlisten = [
			this.monitor.listen(),
			deps.bus.subscribe(HEALTH_RECORD_TOPIC, ({ key }) => this.monitor.onRecord(key)),
		];
		const onError = (error: unknown) => deps.log.error('health was not judged and is tried again', { error });
		const activate = () => {
			this.#running ??= this.once()
				.catch(onError)
				.finally(() => {
					this.#running = undefined;
				});
		};
		this.#timer = every(deps.clock, options.periodMs ?? 1000, activate, onError);
	}

	/** One activation. */
	async once(): Promise<void> {
		await this.monitor.tick();
		await this.#endOverrides();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const off of this.#unlisten) off();
		this.#timer.cancel();
		await this.#running;
	}

	async #endOverrides(): Promise<void> {
		const { store, clock, rng, log, bus, appendAudit } = this.#deps;
		const nowMs = clock.now();
		for (const { nodeId } of await store.read((tx) => tx.nodeHealth.overridesExpired(nowMs, EXPIRED_AT_ONCE))) {
			const ctx = systemContext('reconciler/node-health', clock, log, uuidv7(nowMs, rng));
			const eventId = uuidv7(nowMs, rng);
			const isEnded = await store.unit(function* (tx) {
				const [row] = yield* tx.nodeHealth.overridesOf([nodeId]);
				// Another was set meanwhile, or another replica was here.
				if (row === undefined || !(yield* tx.nodeHealth.endOverride(nodeId, nowMs))) return false;
				yield* appendAudit(tx, ctx, {
					action: 'health.override_expired',
					target: `nodes/${nodeId}`,
					result: 'ok',
					reason: '',
					detail: { schedulable: row.schedulable },
				});
				yield* tx.outbox.append({ id: eventId, topic: HEALTH_TOPIC, key: nodeId, atMs: nowMs });
				return true;
			});
			if (isEnded) bus.publish({ topic: HEALTH_TOPIC, key: nodeId });
		}
	}
}
