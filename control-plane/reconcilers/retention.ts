import { every, type Timer } from '../../kit/clock.ts';
import type { AppDeps } from '../app/deps.ts';

/**
 * Deletes the output of tasks that ended long ago; a list of their output is then empty and complete, and the task says
 * how much there was. Takes no input, is idempotent, and does a bounded amount at a time. What it has looked at is
 * remembered in memory only, as an id: removing what isn't there does nothing, so a restart begins anew.
 */
export interface RetentionOptions {
	/** After the end of a task. Default of the configuration: 30 days. */
	readonly retentionMs: number;
	/** Between two batches of one pass over all tasks. Default 10 s. */
	readonly periodMs?: number;
	/** Between the end of a pass and the next. Default 1 h: output lives longer than asked by at most this and a pass. */
	readonly passPauseMs?: number;
}

const BATCH = 500;

export class RetentionReconciler implements AsyncDisposable {
	readonly #deps: AppDeps;
	readonly #options: RetentionOptions;
	readonly #timer: Timer;
	#afterId = '';
	#nextPassMs = Number.NEGATIVE_INFINITY;
	#running: Promise<void> | undefined;
	#closed = false;

	constructor(deps: AppDeps, options: RetentionOptions) {
		this.#deps = deps;
		this.#options = options;
		const onError = (error: unknown) => deps.log.error('retention of output failed and is tried again', { error });
		const activate = () => {
			if (deps.clock.monotonic() < this.#nextPassMs) return;
			this.#running ??= this.once()
				.catch(onError)
				.finally(() => {
					this.#running = undefined;
				});
		};
		this.#timer = every(deps.clock, options.periodMs ?? 10_000, activate, onError);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#closed = true;
		this.#timer.cancel();
		await this.#running;
	}

	/** One activation: the next batch of this pass. */
	async once(): Promise<void> {
		const { clock, store, output, log } = this.#deps;
		const endedBeforeMs = clock.now() - this.#options.retentionMs;
		const beforeId = firstIdOf(endedBeforeMs);
		const ids = await store.read((tx) => tx.tasks.listEndedBefore(endedBeforeMs, this.#afterId, beforeId, BATCH));
		for (const id of ids) {
			if (this.#closed) return;
			// One that can't be removed holds up no other: the next pass tries it again.
			await output.remove(id).catch((error: unknown) => log.warn('old output was not removed', { task: id, error }));
			this.#afterId = id;
		}
		if (ids.length > 0) log.debug('looked after old output', { tasks: ids.length });
		if (ids.length === BATCH) return;
		this.#afterId = '';
		this.#nextPassMs = clock.monotonic() + (this.#options.passPauseMs ?? 3_600_000);
	}
}

/** Below every id (UUIDv7) of that ms: they begin with the time. */
function firstIdOf(atMs: number): string {
	const text = Math.max(0, atMs).toString(16).padStart(12, '0');
	return `${text.slice(0, 8)}-${text.slice(8)}`;
}
