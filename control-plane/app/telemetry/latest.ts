import type { Clock } from '../../../kit/clock.ts';
import type { TelemetryLimits } from './limits.ts';
import type { NodeSample } from './sample.ts';

/**
 * The newest sample of each node, in memory of the replica that owns its stream: the hot path, no database. Bounded:
 * past `nodesMax` the one that was heard of longest ago goes.
 */
export class LatestTelemetry {
	readonly #clock: Clock;
	readonly #limits: Pick<TelemetryLimits, 'staleAfterMs' | 'nodesMax'>;
	/** In order of arrival. */
	readonly #samples = new Map<string, NodeSample>();

	constructor(clock: Clock, limits: Pick<TelemetryLimits, 'staleAfterMs' | 'nodesMax'>) {
		this.#clock = clock;
		this.#limits = limits;
	}

	put(sample: NodeSample): void {
		this.#samples.delete(sample.nodeId);
		this.#samples.set(sample.nodeId, sample);
		if (this.#samples.size <= this.#limits.nodesMax) return;
		for (const oldest of this.#samples.keys()) {
			this.#samples.delete(oldest);
			return;
		}
	}

	get(nodeId: string): NodeSample | undefined {
		return this.#samples.get(nodeId);
	}

	/** Undefined where the newest is too old to say anything. */
	fresh(nodeId: string): NodeSample | undefined {
		const sample = this.#samples.get(nodeId);
		return sample === undefined || this.isStale(sample) ? undefined : sample;
	}

	/** Oldest first. */
	all(): Iterable<NodeSample> {
		return this.#samples.values();
	}

	/** ms since the sample came. */
	ageMs(sample: NodeSample): number {
		return this.#clock.monotonic() - sample.heardAtMs;
	}

	isStale(sample: NodeSample): boolean {
		return this.ageMs(sample) > this.#limits.staleAfterMs;
	}

	/** The node was removed. */
	forget(nodeId: string): boolean {
		return this.#samples.delete(nodeId);
	}

	get size(): number {
		return this.#samples.size;
	}
}
