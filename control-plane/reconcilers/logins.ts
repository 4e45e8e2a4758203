import { type Clock, every, type Timer } from '../../kit/clock.ts';
import type { Logger } from '../../kit/log.ts';
import type { BrowserLogin } from '../app/login/browser-login.ts';
import type { Store } from '../store/port/store.ts';

/** A person who was disabled at the provider is out of every browser within this and one look more. */
const CHECK_AFTER_MS = 300_000;
const LOOK_MS = 60_000;
/** Of one look, so that the provider isn't asked for a thousand at once. */
const CHECKS_MAX = 100;

/** Ends what is over: sessions that the provider no longer knows, and rows of logins that no longer matter. */
export class LoginReconciler implements AsyncDisposable {
	readonly #options: LoginReconcilerOptions;
	readonly #timer: Timer;
	readonly #stopped = new AbortController();
	#running: Promise<void> | undefined;

	constructor(options: LoginReconcilerOptions) {
		this.#options = options;
		const start = () => {
			this.#running ??= this.run().finally(() => {
				this.#running = undefined;
			});
		};
		this.#timer = every(options.clock, LOOK_MS, start, () => {});
	}

	async run(): Promise<void> {
		const { browser, store, clock, log } = this.#options;
		try {
			await browser.reconcile(CHECK_AFTER_MS, CHECKS_MAX, this.#stopped.signal);
			const nowMs = clock.now();
			await store.unit(function* (tx) {
				yield* tx.logins.sweep(nowMs);
				yield* tx.browserSessions.sweep(nowMs - 24 * 3_600_000);
			});
		} catch (error) {
			log.warn('logins could not be looked after', { error });
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		this.#stopped.abort();
		await this.#running;
	}
}

export interface LoginReconcilerOptions {
	readonly browser: BrowserLogin;
	readonly store: Store;
	readonly clock: Clock;
	readonly log: Logger;
}
