import type { Clock } from '../../../kit/clock.ts';
import type { TelemetryFrame } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HOST_SCHEMA, HOST_SCHEMA_NUMBER, type TelemetryMetric } from '../../../proto/telemetry-schema.ts';

/**
 * The newest telemetry frame of each node, in memory of the replica that owns its stream: the hot path, no database.
 * The node id is the certificate's, never the frame's. Values that no host can have become absent; a frame of an unknown
 * schema, or of another length, is dropped and counted. Called by the gateway (`ingest`) and the ops pages.
 */
export interface Sample {
	readonly schema: number;
	/** In the schema's order; NaN is absent. */
	readonly values: Float64Array;
	/** The agent's clock: shown, never compared with ours. */
	readonly takenAtMs: number;
	/** On `clock.monotonic()`. */
	readonly receivedAtMs: number;
	/** Frames that the agent dropped since it started. */
	readonly dropped: number;
}

export interface LatestTelemetryOptions {
	readonly clock: Clock;
	/** Older than this is stale: three periods of 15 s. */
	readonly staleAfterMs?: number;
	/** Nodes remembered; the one that was heard of longest ago goes. Default: the fleet of the design, doubled. */
	readonly nodesMax?: number;
}

export class LatestTelemetry {
	readonly #clock: Clock;
	readonly #staleAfterMs: number;
	readonly #nodesMax: number;
	/** In order of arrival. */
	readonly #samples = new Map<string, Sample>();
	#refused = 0;

	constructor(options: LatestTelemetryOptions) {
		this.#clock = options.clock;
		this.#staleAfterMs = options.staleAfterMs ?? 45_000;
		this.#nodesMax = options.nodesMax ?? 20_000;
	}

	/** Quick, never throws: as the gateway's LinkDeps wants it. */
	readonly ingest = (nodeId: string, frame: TelemetryFrame): void => {
		const schema = schemaOf(frame.schema);
		if (schema === undefined || frame.values.length !== schema.length) {
			this.#refused += 1;
			return;
		}
		const values = new Float64Array(schema.length);
		for (const [index, metric] of schema.entries()) values[index] = plausible(frame.values[index], metric);
		this.#samples.delete(nodeId);
		this.#samples.set(nodeId, {
			schema: frame.schema,
			values,
			takenAtMs: frame.at === undefined ? 0 : Number(frame.at.seconds) * 1000 + frame.at.nanos / 1e6,
			receivedAtMs: this.#clock.monotonic(),
			dropped: Number(frame.dropped),
		});
		if (this.#samples.size <= this.#nodesMax) return;
		for (const oldest of this.#samples.keys()) {
			this.#samples.delete(oldest);
			return;
		}
	};

	get(nodeId: string): Sample | undefined {
		return this.#samples.get(nodeId);
	}

	/** ms since the sample came. */
	ageMs(sample: Sample): number {
		return this.#clock.monotonic() - sample.receivedAtMs;
	}

	isStale(sample: Sample): boolean {
		return this.ageMs(sample) > this.#staleAfterMs;
	}

	/** The node was removed. */
	forget(nodeId: string): void {
		this.#samples.delete(nodeId);
	}

	get size(): number {
		return this.#samples.size;
	}

	get refused(): number {
		return this.#refused;
	}
}

export function schemaOf(number: number): readonly TelemetryMetric[] | undefined {
	return number === HOST_SCHEMA_NUMBER ? HOST_SCHEMA : undefined;
}

function plausible(value: number | undefined, metric: TelemetryMetric): number {
	return value !== undefined && value >= 0 && value <= metric.max ? value : Number.NaN;
}
