import { assert } from './assert.ts';
import type { Clock } from './clock.ts';

/** Token bucket: `ratePerSecond` sustained, `burst` at once. */
export class TokenBucket {
	readonly #clock: Clock;
	readonly #ratePerSecond: number;
	readonly #burst: number;
	#tokens: number;
	#refilledAtMs: number;

	constructor(clock: Clock, ratePerSecond: number, burst: number) {
		assert(ratePerSecond > 0 && burst >= 1, 'a token bucket needs a positive rate and a burst of at least 1');
		this.#clock = clock;
		this.#ratePerSecond = ratePerSecond;
		this.#burst = burst;
		this.#tokens = burst;
		this.#refilledAtMs = clock.monotonic();
	}

	/** Takes the tokens and returns 0, or takes none and returns the ms after which they will be there. */
	take(tokens = 1): number {
		const nowMs = this.#clock.monotonic();
		this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#refilledAtMs) / 1000) * this.#ratePerSecond);
		this.#refilledAtMs = nowMs;
		if (this.#tokens >= tokens) {
			this.#tokens -= tokens;
			return 0;
		}
		return Math.ceil(((tokens - this.#tokens) / this.#ratePerSecond) * 1000);
	}

	/** Tokens that were taken for what then didn't happen. */
	giveBack(tokens: number): void {
		this.#tokens = Math.min(this.#burst, this.#tokens + tokens);
	}

	/** Whether nothing was taken lately: such a bucket can be forgotten without changing any answer. */
	isFull(): boolean {
		return this.#tokens + ((this.#clock.monotonic() - this.#refilledAtMs) / 1000) * this.#ratePerSecond >= this.#burst;
	}
}

/** One bucket a key (address, principal), bounded: past `keysMax` full buckets are dropped, else the oldest. */
export class KeyedBuckets {
	readonly #buckets = new Map<string, TokenBucket>();
	readonly #create: () => TokenBucket;
	readonly #keysMax: number;

	constructor(clock: Clock, ratePerSecond: number, burst: number, keysMax = 10_000) {
		this.#create = () => new TokenBucket(clock, ratePerSecond, burst);
		this.#keysMax = keysMax;
	}

	/** As `TokenBucket.take`, for `key`. */
	take(key: string, tokens = 1): number {
		let bucket = this.#buckets.get(key);
		if (bucket === undefined) {
			if (this.#buckets.size >= this.#keysMax) this.#forget();
			bucket = this.#create();
			this.#buckets.set(key, bucket);
		}
		return bucket.take(tokens);
	}

	/** As `TokenBucket.giveBack`, for `key`. */
	giveBack(key: string, tokens: number): void {
		this.#buckets.get(key)?.giveBack(tokens);
	}

	#forget(): void {
		for (const [key, bucket] of this.#buckets) if (bucket.isFull()) this.#buckets.delete(key);
		for (const key of this.#buckets.keys()) {
			if (this.#buckets.size < this.#keysMax) return;
			this.#buckets.delete(key);
		}
	}
}
