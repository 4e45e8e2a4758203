import { type Clock, sleep } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Rng } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import { Backoff } from '../../../kit/retry.ts';
import type { Post } from './post.ts';
import type { PushQueue } from './push-queue.ts';

/**
 * Sends what waits in a push queue, in order, one request at a time: the next goes when the receiver has the one before.
 * Tries again for as long as the receiver is away or overloaded (429, 5xx, no answer), with backoff and its Retry-After;
 * what the receiver refuses for what it is (other 4xx) is dropped and counted, because it would be refused for ever.
 * A disk that fails it ends nothing: the queue is tried again, too.
 */
export interface SenderDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	/** For the log: never the URL, which may hold a password. */
	readonly name: string;
	readonly queue: Pick<PushQueue, 'peek' | 'take' | 'records'>;
	readonly post: Post;
}

export interface SenderCounts {
	readonly sent: number;
	readonly refused: number;
	readonly retried: number;
}

const WAKE_MS = 5000;
/** A receiver that refuses everything must not fill the log, and must not be forgotten either. */
const WARN_EVERY_MS = 600_000;

export class Sender {
	readonly #deps: SenderDeps;
	readonly #backoff: Backoff;
	#wake: (() => void) | undefined;
	#sent = 0;
	#refused = 0;
	#retried = 0;
	#isFailing = false;
	#isDiskFailing = false;
	/** On the monotonic clock: when a refusal was last logged, and how many there were by then. */
	#warned = { atMs: Number.NEGATIVE_INFINITY, refused: 0 };

	constructor(deps: SenderDeps) {
		this.#deps = deps;
		this.#backoff = new Backoff({ baseMs: 500, maxMs: 60_000, floorMs: 100 }, deps.rng);
	}

	get counts(): SenderCounts {
		return { sent: this.#sent, refused: this.#refused, retried: this.#retried };
	}

	/** There may be something to send. */
	readonly wake = (): void => this.#wake?.();

	async run(signal: AbortSignal): Promise<void> {
		const { clock, log, name } = this.#deps;
		while (!signal.aborted) {
			try {
				await this.#next(signal);
			} catch (error) {
				if (!this.#isDiskFailing)
					log.error('the queue of pushed telemetry can not be read or kept', { to: name, error });
				this.#isDiskFailing = true;
				await sleep(clock, this.#backoff.nextMs(), signal);
			}
		}
	}

	/** Throws what the disk says. */
	async #next(signal: AbortSignal): Promise<void> {
		const { queue, clock } = this.#deps;
		const request = await queue.peek();
		if (request === undefined) {
			const woken = new AbortController();
			const stop = () => woken.abort();
			this.#wake = stop;
			signal.addEventListener('abort', stop, { once: true });
			await sleep(clock, WAKE_MS, woken.signal);
			signal.removeEventListener('abort', stop);
			this.#wake = undefined;
			return;
		}
		if (!(await this.#deliver(request, signal))) return;
		await queue.take();
		this.#isDiskFailing = false;
	}

	/** Whether the request is done with. */
	async #deliver(request: Buffer, signal: AbortSignal): Promise<boolean> {
		const { post, clock, log, name } = this.#deps;
		let why: string;
		let retryAfterMs = 0;
		try {
			const answer = await post(request, signal);
			if (answer.status >= 200 && answer.status < 300) {
				this.#sent += 1;
				this.#backoff.reset();
				if (this.#isFailing) log.info('telemetry is pushed again', { to: name, waiting: this.#deps.queue.records });
				this.#isFailing = false;
				return true;
			}
			if (answer.status < 500 && answer.status !== 429 && answer.status !== 408) {
				this.#refused += 1;
				this.#warnOfRefusals(answer);
				return true;
			}
			why = `status ${answer.status}`;
			retryAfterMs = answer.retryAfterMs;
		} catch (error) {
			why = messageOf(error);
		}
		if (signal.aborted) return false;
		if (!this.#isFailing) log.warn('telemetry is not pushed now; it waits on disk', { to: name, why });
		this.#isFailing = true;
		this.#retried += 1;
		await sleep(clock, this.#backoff.nextMs(Math.min(retryAfterMs, 300_000)), signal);
		return false;
	}

	#warnOfRefusals({ status, text }: { readonly status: number; readonly text: string }): void {
		const { clock, log, name } = this.#deps;
		const nowMs = clock.monotonic();
		if (nowMs - this.#warned.atMs < WARN_EVERY_MS) return;
		const requests = this.#refused - this.#warned.refused;
		this.#warned = { atMs: nowMs, refused: this.#refused };
		log.warn('a receiver refuses pushed telemetry: it is dropped', { to: name, status, requests, answer: text });
	}
}
