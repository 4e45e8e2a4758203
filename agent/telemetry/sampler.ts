import type { Clock, Timer } from '../../kit/clock.ts';
import type { TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/**
 * Takes a sample each period and hands it to the link's droppable lane. The first one is delayed by a share of the period
 * that depends on the node id, so that a fleet that started together doesn't send together. Frames that the link did not
 * take are counted as dropped; nothing waits for them.
 */
export interface SamplerOptions {
	readonly clock: Clock;
	readonly nodeId: string;
	/** May take as long as the probe's deadline; when it rejects the sample is dropped. */
	collect(dropped: bigint): Promise<TelemetryFrame>;
	/** False when the link can't take it now. */
	send(frame: TelemetryFrame): boolean;
	onError(error: unknown): void;
}

export interface Plan {
	readonly periodMs: number;
	/** A shorter period, asked for by somebody who looks, until `fastUntilMs` (wall clock). */
	readonly fastPeriodMs: number;
	readonly fastUntilMs: number;
}

const PERIOD_MIN_MS = 1000;

export class TelemetrySampler implements Disposable {
	readonly #options: SamplerOptions;
	#plan: Plan;
	#timer: Timer | undefined;
	#dropped = 0n;
	#stopped = false;
	#isBusy = false;

	constructor(options: SamplerOptions, plan: Plan) {
		this.#options = options;
		this.#plan = plan;
		this.#arm(this.#periodMs() * share(options.nodeId));
	}

	get dropped(): bigint {
		return this.#dropped;
	}

	/** Takes effect at once when it asks for more often. */
	setPlan(plan: Plan): void {
		const before = this.#periodMs();
		this.#plan = plan;
		if (this.#periodMs() < before) this.#arm(this.#periodMs());
	}

	[Symbol.dispose](): void {
		this.#stopped = true;
		this.#timer?.cancel();
	}

	#periodMs(): number {
		const { periodMs, fastPeriodMs, fastUntilMs } = this.#plan;
		const fast = fastPeriodMs > 0 && this.#options.clock.now() < fastUntilMs;
		return Math.max(PERIOD_MIN_MS, fast ? Math.min(fastPeriodMs, periodMs) : periodMs);
	}

	#arm(delayMs: number): void {
		this.#timer?.cancel();
		if (this.#stopped) return;
		this.#timer = this.#options.clock.setTimer(() => {
			void this.#take();
			this.#arm(this.#periodMs());
		}, delayMs);
	}

	/** A sample that isn't finished when the next is due takes its place: a slow driver must not pile them up. */
	async #take(): Promise<void> {
		if (this.#isBusy) {
			this.#dropped += 1n;
			return;
		}
		this.#isBusy = true;
		try {
			const frame = await this.#options.collect(this.#dropped);
			if (!this.#stopped && !this.#options.send(frame)) this.#dropped += 1n;
		} catch (error) {
			this.#dropped += 1n;
			this.#options.onError(error);
		} finally {
			this.#isBusy = false;
		}
	}
}

/** In [0, 1), from the random end of a UUIDv7. */
function share(nodeId: string): number {
	return Number.parseInt(nodeId.slice(-6), 16) / 2 ** 24 || 0;
}
