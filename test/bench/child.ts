import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/**
 * A process of a bench: what is measured and what drives it don't share an event loop. It gets its settings as one JSON
 * argument, answers each message with one, and ends with its parent.
 */
export class BenchChild implements AsyncDisposable {
	readonly #child: ChildProcess;
	/** Its first message. */
	readonly ready: Promise<unknown>;
	#ended = false;

	constructor(file: string, settings: unknown, execArgv: readonly string[] = []) {
		const path = fileURLToPath(new URL(file, import.meta.url));
		this.#child = fork(path, [JSON.stringify(settings)], { serialization: 'advanced', execArgv: [...execArgv] });
		this.#child.once('exit', () => {
			this.#ended = true;
		});
		this.ready = this.#next();
	}

	/** One question at a time. */
	async ask<T>(message: unknown): Promise<T> {
		const answer = this.#next();
		this.#child.send(message as object);
		return (await answer) as T;
	}

	get pid(): number {
		return this.#child.pid ?? 0;
	}

	kill(): Promise<unknown> {
		return this.#end('SIGKILL');
	}

	/** Disconnected, it ends by itself and leaves its profile, if it makes one. */
	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#ended) return;
		const ended = once(this.#child, 'exit');
		this.#child.disconnect();
		await ended;
	}

	async #end(signal: NodeJS.Signals): Promise<void> {
		if (this.#ended) return;
		const ended = once(this.#child, 'exit');
		this.#child.kill(signal);
		await ended;
	}

	#next(): Promise<unknown> {
		return new Promise((resolve, reject) => {
			const onMessage = (message: unknown) => {
				this.#child.removeListener('exit', onExit);
				resolve(message);
			};
			const onExit = (code: number | null) => reject(new Error(`a process of the bench ended with ${code}`));
			this.#child.once('message', onMessage);
			this.#child.once('exit', onExit);
		});
	}
}

/** The other end, in the child's main: says `ready`, then answers until the parent is gone. */
export async function serveParent<T>(ready: unknown, answer: (message: T) => Promise<unknown>): Promise<void> {
	const ended = Promise.withResolvers<void>();
	process.once('disconnect', () => ended.resolve());
	process.on('message', (message) => {
		answer(message as T).then((result) => void process.send?.(result ?? null), ended.reject);
	});
	process.send?.(ready);
	await ended.promise;
}
