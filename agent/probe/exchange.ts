import type { Clock, Timer } from '../../kit/clock.ts';
import type { ProbeAnswer, ProbeRequest } from './protocol.ts';

/**
 * The one request that is under way. Its deadline is kept here, by the parent: the caller gets nothing after it, while
 * the request stays under way until the probe answers late or is given up. Asking from then on is a miss.
 */
export interface ExchangeEvents {
	readonly onLate: (waitedMs: number) => void;
	readonly onHung: (waitedMs: number) => void;
	/** `wasLate`: the caller had been told that nothing came. */
	readonly onAnswered: (tookMs: number, wasLate: boolean) => void;
}

export interface ExchangeLimits {
	readonly hungAfterMs: number;
	readonly missesMax: number;
}

type Body<Request> = Request extends ProbeRequest ? Omit<Request, 'id'> : never;
export type RequestBody = Body<ProbeRequest>;

interface Pending {
	readonly id: number;
	readonly startedAtMs: number;
	readonly timers: readonly Timer[];
	readonly resolve: (answer: ProbeAnswer | undefined) => void;
	misses: number;
	isLate: boolean;
}

export class Exchange {
	readonly #clock: Clock;
	readonly #limits: ExchangeLimits;
	readonly #events: ExchangeEvents;
	readonly #send: (request: ProbeRequest) => void;
	#pending: Pending | undefined;
	#lastId = 0;
	#misses = 0;

	constructor(clock: Clock, limits: ExchangeLimits, events: ExchangeEvents, send: (request: ProbeRequest) => void) {
		this.#clock = clock;
		this.#limits = limits;
		this.#events = events;
		this.#send = send;
	}

	/** Requests that were not answered in time, ever. */
	get misses(): number {
		return this.#misses;
	}

	get isBusy(): boolean {
		return this.#pending !== undefined;
	}

	/** Undefined: not answered in time, or another request is still under way. */
	ask(body: RequestBody, deadlineMs: number): Promise<ProbeAnswer | undefined> {
		if (this.#pending !== undefined) {
			// One that still has time misses nothing, however many wait for their turn.
			if (this.#pending.isLate) this.#miss(this.#pending);
			return Promise.resolve(undefined);
		}
		return new Promise((resolve) => {
			this.#lastId += 1;
			const pending: Pending = {
				id: this.#lastId,
				startedAtMs: this.#clock.monotonic(),
				resolve,
				misses: 0,
				isLate: false,
				timers: [
					this.#clock.setTimer(() => this.#late(pending), deadlineMs),
					this.#clock.setTimer(() => this.#hung(pending), this.#limits.hungAfterMs),
				],
			};
			this.#pending = pending;
			this.#send({ ...body, id: pending.id });
		});
	}

	/**
	 * Whether somebody still waited for it. An answer to something else than what is under way is of a request that was
	 * given up.
	 */
	answered(answer: ProbeAnswer): boolean {
		const pending = this.#pending;
		if (pending === undefined || answer.id !== pending.id) return false;
		this.#end(pending);
		this.#events.onAnswered(this.#waitedMs(pending), pending.isLate);
		pending.resolve(answer);
		return !pending.isLate;
	}

	/** The probe is gone: nothing will answer. */
	giveUp(): void {
		const pending = this.#pending;
		if (pending === undefined) return;
		this.#end(pending);
		pending.resolve(undefined);
	}

	#late(pending: Pending): void {
		pending.isLate = true;
		pending.resolve(undefined);
		this.#events.onLate(this.#waitedMs(pending));
		this.#miss(pending);
	}

	#miss(pending: Pending): void {
		this.#misses += 1;
		pending.misses += 1;
		if (pending.misses >= this.#limits.missesMax) this.#hung(pending);
	}

	#hung(pending: Pending): void {
		if (this.#pending !== pending) return;
		pending.isLate = true;
		pending.resolve(undefined);
		const waitedMs = this.#waitedMs(pending);
		this.#end(pending);
		this.#events.onHung(waitedMs);
	}

	#end(pending: Pending): void {
		for (const timer of pending.timers) timer.cancel();
		this.#pending = undefined;
	}

	#waitedMs({ startedAtMs }: Pending): number {
		return this.#clock.monotonic() - startedAtMs;
	}
}
