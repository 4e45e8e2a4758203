import type { Clock } from '../../../kit/clock.ts';
import type { Logger } from '../../../kit/log.ts';
import type { TelemetryFrame } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { NodeDirectory } from './directory.ts';
import { FrameRate } from './frame-rate.ts';
import { type FrameRefusal, type JudgedFrame, judgeFrame } from './judge-frame.ts';
import { KnownIds } from './known-ids.ts';
import { LatestTelemetry } from './latest.ts';
import type { TelemetryLimits } from './limits.ts';
import { carriedRows } from './old-values.ts';
import { type NodeSample, SLOW_PARTS } from './sample.ts';
import { xidsAfter } from './tenant-xid.ts';

/**
 * The door for telemetry: judges each frame, stamps it with the custody that its node is in now, keeps the newest of each
 * node, and hands it to whoever listens. The node id is the certificate's, never the frame's. What is refused is counted
 * by reason and costs the sender that frame, and nobody else anything: no session ends over it, nothing is awaited,
 * nothing throws. Called by the gateway for every frame of the fleet.
 */
export interface IngestDeps {
	readonly clock: Clock;
	readonly log: Logger;
	readonly directory: Pick<NodeDirectory, 'get' | 'onChange'>;
	readonly limits: TelemetryLimits;
}

/** Both must be quick and must not throw. */
export interface SampleListener {
	onSample(sample: NodeSample, before: NodeSample | undefined): void;
	/** The node was removed, or nothing came of it for so long that its newest sample is stale. */
	onSilence?(nodeId: string, last: NodeSample): void;
}

/** What was refused since the start, by what it was and why. */
export type Refusals = ReadonlyMap<`${'frame' | 'row' | 'value'}/${string}`, number>;

/** One warning a node and this long: a broken agent must not fill the log. */
const WARN_EVERY_MS = 600_000;

export class TelemetryIngest {
	readonly latest: LatestTelemetry;
	readonly #deps: IngestDeps;
	readonly #rate: FrameRate;
	readonly #ids: KnownIds;
	readonly #listeners = new Set<SampleListener>();
	readonly #refused = new Map<`${'frame' | 'row' | 'value'}/${string}`, number>();
	readonly #lastRefusal = new Map<
		string,
		{ readonly reason: FrameRefusal; readonly atMs: number; warnedAtMs: number }
	>();
	/** Samples whose silence was told. */
	readonly #silent = new WeakSet<NodeSample>();
	#accepted = 0;

	constructor(deps: IngestDeps) {
		this.#deps = deps;
		const { clock, limits, directory } = deps;
		this.latest = new LatestTelemetry(clock, limits);
		this.#rate = new FrameRate(limits);
		this.#ids = new KnownIds(limits.strangeIdsPerHourMax);
		directory.onChange((nodeId) => {
			if (directory.get(nodeId) === undefined) this.#forget(nodeId);
		});
	}

	/** As the gateway's LinkDeps wants it. */
	readonly ingest = (nodeId: string, frame: TelemetryFrame): void => {
		const { clock, limits, directory } = this.#deps;
		const heardAtMs = clock.monotonic();
		if (!this.#rate.take(nodeId, heardAtMs)) {
			this.#refuse(nodeId, 'rate', heardAtMs);
			return;
		}
		const entry = directory.get(nodeId);
		const nowMs = clock.now();
		const judged = judgeFrame(frame, {
			nowMs,
			limits,
			knows: (part, id) => this.#ids.knows(nodeId, entry?.identities, part, id, heardAtMs),
		});
		if (judged.kind === 'refused') {
			this.#refuse(nodeId, judged.reason, heardAtMs);
			return;
		}
		for (const [reason, count] of judged.refusedRows) this.#count(`row/${reason}`, count);
		for (const [reason, count] of judged.refusedValues) this.#count(`value/${reason}`, count);
		const before = this.latest.get(nodeId);
		const sample: NodeSample = Object.freeze({
			nodeId,
			schema: frame.schema,
			// A node that isn't known yet gets the custody that is trusted least.
			custody: entry?.node.custody ?? 'transit',
			simulated: frame.simulated,
			probe: frame.probe,
			dropped: Number(frame.dropped),
			inventory: frame.inventory.slice(0, 16),
			takenAtMs: judged.takenAtMs,
			receivedAtMs: nowMs,
			heardAtMs,
			xidsAfterMs: xidsAfter(frame.schema, judged.rows.gpu, before),
			...this.#withSlow(frame, judged, before, heardAtMs),
		});
		this.#accepted += 1;
		this.latest.put(sample);
		for (const listener of this.#listeners) listener.onSample(sample, before);
	};

	listen(listener: SampleListener): () => void {
		this.#listeners.add(listener);
		return () => void this.#listeners.delete(listener);
	}

	/** Tells listeners of nodes that fell silent since the last call. Called by a timer. */
	sweep(): void {
		for (const sample of this.latest.all()) {
			// In order of arrival: the first that is fresh ends it.
			if (!this.latest.isStale(sample)) return;
			if (this.#silent.has(sample)) continue;
			this.#silent.add(sample);
			for (const listener of this.#listeners) listener.onSilence?.(sample.nodeId, sample);
		}
	}

	get accepted(): number {
		return this.#accepted;
	}

	get refused(): Refusals {
		return this.#refused;
	}

	/** Why the newest frame of the node that was refused was, and how long ago in ms. */
	refusalOf(nodeId: string): { readonly reason: FrameRefusal; readonly ageMs: number } | undefined {
		const refusal = this.#lastRefusal.get(nodeId);
		return refusal && { reason: refusal.reason, ageMs: this.#deps.clock.monotonic() - refusal.atMs };
	}

	/** Parts that are measured less often stay as they were, as long as they still can be true. */
	#withSlow(frame: TelemetryFrame, judged: JudgedFrame, before: NodeSample | undefined, heardAtMs: number) {
		const { processes } = judged;
		if (frame.hasSlow)
			return { rows: judged.rows, slowHeardAtMs: heardAtMs, ...(processes === undefined ? {} : { processes }) };
		const isUsable =
			before !== undefined &&
			before.schema === frame.schema &&
			before.inventory === frame.inventory &&
			heardAtMs - before.slowHeardAtMs <= this.#deps.limits.slowStaleAfterMs;
		if (!isUsable) return { rows: judged.rows, slowHeardAtMs: Number.NEGATIVE_INFINITY };
		const rows = { ...judged.rows };
		// What is said of a GPU that didn't answer now would be old values in new clothes.
		const answering = new Set(rows.gpu.map(({ id }) => id));
		for (const part of SLOW_PARTS) {
			const isOfGpu = part === 'gpuSlow' || part === 'nvlink';
			const still = isOfGpu ? before.rows[part].filter(({ id }) => answering.has(id)) : before.rows[part];
			rows[part] = carriedRows(frame.schema, part, still, heardAtMs - before.heardAtMs);
		}
		const kept = before.processes?.processes.filter(({ gpu }) => hasThing(rows, gpu));
		return {
			...{ rows, slowHeardAtMs: before.slowHeardAtMs },
			...(kept === undefined ? {} : { processes: { processes: kept, leftOut: before.processes?.leftOut ?? 0 } }),
		};
	}

	#refuse(nodeId: string, reason: FrameRefusal, atMs: number): void {
		this.#count(`frame/${reason}`, 1);
		const known = this.#lastRefusal.get(nodeId);
		let warnedAtMs = known?.warnedAtMs ?? Number.NEGATIVE_INFINITY;
		if (atMs - warnedAtMs > WARN_EVERY_MS) {
			warnedAtMs = atMs;
			this.#deps.log.warn('telemetry of a node was refused', { node: nodeId, reason });
		}
		this.#lastRefusal.set(nodeId, { reason, atMs, warnedAtMs });
	}

	#count(what: `${'frame' | 'row' | 'value'}/${string}`, count: number): void {
		this.#refused.set(what, (this.#refused.get(what) ?? 0) + count);
	}

	#forget(nodeId: string): void {
		this.#ids.forget(nodeId);
		this.#lastRefusal.delete(nodeId);
		const last = this.latest.get(nodeId);
		if (last === undefined) return;
		this.latest.forget(nodeId);
		for (const listener of this.#listeners) listener.onSilence?.(nodeId, last);
	}
}

function hasThing({ gpu, slice }: NodeSample['rows'], wanted: string): boolean {
	return gpu.some(({ id }) => id === wanted) || slice.some(({ id }) => id === wanted);
}
