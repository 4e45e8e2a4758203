import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Clock, Timer } from '../../kit/clock.ts';
import { type TelemetryFrame, TelemetryFrameSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HOST_SCHEMA, HOST_SCHEMA_NUMBER } from '../../proto/telemetry-schema.ts';
import type { Values } from './proc-files.ts';

/**
 * Takes a sample each period and hands it to the link's droppable lane. The first one is delayed by a share of the period
 * that depends on the node id, so that a fleet that started together doesn't send together. Frames that the link did not
 * take are counted as dropped; nothing waits for them.
 */
export interface SamplerOptions {
	readonly clock: Clock;
	readonly nodeId: string;
	sample(): Values;
	/** False when the link can't take it now. */
	send(frame: TelemetryFrame): boolean;
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
			this.#take();
			this.#arm(this.#periodMs());
		}, delayMs);
	}

	#take(): void {
		const values = this.#options.sample();
		const frame = create(TelemetryFrameSchema, {
			schema: HOST_SCHEMA_NUMBER,
			at: timestampFromMs(this.#options.clock.now()),
			values: HOST_SCHEMA.map(({ key }) => values.get(key) ?? Number.NaN),
			dropped: this.#dropped,
		});
		if (!this.#options.send(frame)) this.#dropped += 1n;
	}
}

/** In [0, 1), from the random end of a UUIDv7. */
function share(nodeId: string): number {
	return Number.parseInt(nodeId.slice(-6), 16) / 2 ** 24 || 0;
}
