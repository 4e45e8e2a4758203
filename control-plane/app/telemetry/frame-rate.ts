/** A token bucket of each node: what comes faster than the fastest plan is refused before it costs anything. */
export class FrameRate {
	readonly #perSecond: number;
	readonly #burst: number;
	readonly #nodesMax: number;
	/** In the order of their last frame. */
	readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

	constructor(limits: {
		readonly framesPerSecondMax: number;
		readonly framesBurstMax: number;
		readonly nodesMax: number;
	}) {
		this.#perSecond = limits.framesPerSecondMax;
		this.#burst = limits.framesBurstMax;
		this.#nodesMax = limits.nodesMax;
	}

	/** Whether the node may send one more; `nowMs` is monotonic. */
	take(nodeId: string, nowMs: number): boolean {
		const bucket = this.#buckets.get(nodeId) ?? { tokens: this.#burst, atMs: nowMs };
		bucket.tokens = Math.min(this.#burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * this.#perSecond);
		bucket.atMs = nowMs;
		this.#buckets.delete(nodeId);
		this.#buckets.set(nodeId, bucket);
		if (this.#buckets.size > this.#nodesMax) {
			for (const oldest of this.#buckets.keys()) {
				this.#buckets.delete(oldest);
				break;
			}
		}
		if (bucket.tokens < 1) return false;
		bucket.tokens -= 1;
		return true;
	}
}
