import { GpuaasError } from './error.ts';

/**
 * Structured lifetime: everything that a process or a request starts belongs to a scope, and closing the scope
 * aborts its signal, waits for its tasks, and disposes its resources in reverse order.
 */
export class Scope implements AsyncDisposable {
	readonly #controller = new AbortController();
	readonly #stack = new AsyncDisposableStack();
	readonly #tasks = new Set<Promise<void>>();
	readonly #onFailure: (name: string, error: unknown) => void;

	/** `onFailure` hears of a task that rejected before the scope was closed. */
	constructor(onFailure: (name: string, error: unknown) => void) {
		this.#onFailure = onFailure;
	}

	get signal(): AbortSignal {
		return this.#controller.signal;
	}

	/** Registers a resource and returns it. */
	use<T extends AsyncDisposable | Disposable>(resource: T): T {
		return this.#stack.use(resource);
	}

	/** Registers a closing step, run in reverse order of registration. */
	defer(close: () => void | Promise<void>): void {
		this.#stack.defer(close);
	}

	/** Starts a long-running task. It must end soon after `signal` aborts. */
	run(name: string, task: (signal: AbortSignal) => Promise<void>): void {
		if (this.signal.aborted) {
			throw new GpuaasError({
				code: 'UNAVAILABLE',
				reason: 'SHUTTING_DOWN',
				message: `${name}: the process is shutting down`,
			});
		}
		const running = task(this.signal)
			.catch((error: unknown) => {
				if (!this.signal.aborted) this.#onFailure(name, error);
			})
			.finally(() => this.#tasks.delete(running));
		this.#tasks.add(running);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#controller.abort();
		await Promise.all(this.#tasks);
		await this.#stack.disposeAsync();
	}
}

/** Resolves when `signal` aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
	if (signal.aborted) return Promise.resolve();
	return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
