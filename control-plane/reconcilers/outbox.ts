import { every, type Timer } from '../../kit/clock.ts';
import type { AppDeps } from '../app/deps.ts';

/**
 * Relays events that were committed and may not have been published, because the process died in between or because
 * another replica must hear of them. Whoever writes an event also publishes its hint right after the commit, so this
 * is not on the way of anything that waits. Hints are at most once, and so is this relay: it publishes after the
 * removal is committed.
 */
export interface OutboxOptions {
	/** Default 1 s. */
	readonly periodMs?: number;
}

const BATCH = 1000;

export class OutboxReconciler implements AsyncDisposable {
	readonly #deps: AppDeps;
	readonly #timer: Timer;
	#running: Promise<void> | undefined;
	#closed = false;

	constructor(deps: AppDeps, options: OutboxOptions = {}) {
		this.#deps = deps;
		const onError = (error: unknown) => deps.log.error('the outbox could not be relayed and is tried again', { error });
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
		this.#closed = true;
		this.#timer.cancel();
		await this.#running;
	}

	/** One activation: everything that is there. */
	async once(): Promise<void> {
		for (let taken = BATCH; taken === BATCH && !this.#closed; ) {
			const rows = await this.#deps.store.unit((tx) => tx.outbox.take(BATCH));
			for (const { topic, key } of rows) this.#deps.bus.publish({ topic, key });
			taken = rows.length;
		}
	}
}
