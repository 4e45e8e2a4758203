import { type Clock, every, type Timer } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { NodeDirectory, NodeEntry } from '../../app/telemetry/directory.ts';
import type { Family, Position } from '../../app/telemetry/families.ts';
import type { SampleListener } from '../../app/telemetry/ingest.ts';
import type { Labels } from '../../app/telemetry/labels.ts';
import { exportedSample } from '../../app/telemetry/old-values.ts';
import type { NodeSample } from '../../app/telemetry/sample.ts';
import { type SeriesOptions, type SeriesVisitor, walkSeries } from '../../app/telemetry/series.ts';
import type { XidCounts } from '../../app/telemetry/xid-counts.ts';
import { XID_EVENTS, type XidSeries, xidSeries } from '../../app/telemetry/xid-series.ts';
import { goneSince, type Sent } from './gone-since.ts';
import type { PushQueue } from './push-queue.ts';

/**
 * Turns samples into requests that wait on disk: each sample as it comes, and before it one marker for each series that is
 * gone (its thing, its value, its node, or a label that changed). Times of a node never go back, because receivers refuse
 * samples that are older than what they have: while our wall clock is behind, they rise by a ms each. What a receiver is
 * down for is the queue's matter; what the disk doesn't take is dropped and counted. Never holds up the ingest.
 */
export interface SampleEncoder {
	readonly seriesCount: number;
	/** What follows is of this target. */
	begin(target: Labels, atMs: number): void;
	/** `value` undefined: the series is gone. */
	series(family: Family, position: Position, labels: Labels, value: number | undefined, more: Labels): void;
	/** The request of all that was added since the last. */
	take(): Buffer;
}

export interface PusherDeps {
	readonly clock: Clock;
	readonly log: Logger;
	readonly directory: Pick<NodeDirectory, 'get'>;
	readonly queue: Pick<PushQueue, 'append'>;
	readonly encoder: SampleEncoder;
	readonly series: SeriesOptions;
	readonly xids: Pick<XidCounts, 'of'>;
	/** Called when something was added to the queue. */
	onQueued(): void;
}

/** One request: large enough to compress well, small enough for every receiver's limit. */
const SERIES_PER_REQUEST_MAX = 5000;
const FLUSH_MS = 1000;

export class Pusher implements SampleListener, AsyncDisposable {
	readonly #deps: PusherDeps;
	readonly #timer: Timer;
	/** By node: what its series were called in the newest sample that was sent. Ends with a node's silence. */
	readonly #sent = new Map<string, Sent>();
	/** By node, wall clock: the newest time that was sent. Ends with the node. */
	readonly #sentAtMs = new Map<string, number>();
	#appending: Promise<void> = Promise.resolve();
	#lost = 0;

	constructor(deps: PusherDeps) {
		this.#deps = deps;
		const onError = (error: unknown) => deps.log.error('a push could not be made', { error });
		this.#timer = every(deps.clock, FLUSH_MS, () => this.#flush(), onError);
	}

	onSample(heard: NodeSample): void {
		const sample = exportedSample(heard);
		const entry = this.#deps.directory.get(sample.nodeId);
		const target = targetOf(entry, sample.nodeId);
		const now: Sent = { entry, sample, target, xids: this.#xidsOf(entry, sample) };
		const before = this.#sent.get(sample.nodeId);
		const gone = before && goneSince(before, now, this.#deps.series);
		if (gone !== undefined) this.#encode(gone, sample.receivedAtMs, true);
		this.#encode(now, sample.receivedAtMs, false);
		this.#sent.set(sample.nodeId, now);
	}

	onSilence(nodeId: string): void {
		const last = this.#sent.get(nodeId);
		this.#sent.delete(nodeId);
		if (last !== undefined) this.#encode(last, this.#deps.clock.now(), true);
		if (this.#deps.directory.get(nodeId) === undefined) this.#sentAtMs.delete(nodeId);
	}

	/** Series that the disk didn't take, since the start. */
	get lost(): number {
		return this.#lost;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		this.#flush();
		await this.#appending;
	}

	/** Without labels that say nothing, which no receiver keeps. */
	#xidsOf(entry: NodeEntry | undefined, sample: NodeSample): readonly XidSeries[] {
		const { series, xids } = this.#deps;
		if (!series.names.has('gpuaas')) return [];
		return xidSeries(entry, sample, xids.of(sample.nodeId)).map(({ labels, value }) => ({
			labels: labels.filter(([, text]) => text !== ''),
			value,
		}));
	}

	#encode({ entry, sample, target, xids }: Sent, wantedAtMs: number, areGone: boolean): void {
		const { encoder, series } = this.#deps;
		const lastMs = this.#sentAtMs.get(sample.nodeId) ?? Number.NEGATIVE_INFINITY;
		const atMs = Math.max(lastMs + 1, Math.round(wantedAtMs));
		this.#sentAtMs.set(sample.nodeId, atMs);
		encoder.begin(target, atMs);
		const visitor: SeriesVisitor<Labels> = {
			labels: (labels) => labels,
			family: () => {},
			series: (family, position, labels, value, more) =>
				encoder.series(family, position, labels, areGone ? undefined : value, more),
		};
		walkSeries(entry, sample, series, visitor);
		for (const position of XID_EVENTS.positions)
			for (const { labels, value } of xids)
				encoder.series(XID_EVENTS, position, labels, areGone ? undefined : value, []);
		if (encoder.seriesCount >= SERIES_PER_REQUEST_MAX) this.#flush();
	}

	#flush(): void {
		const { encoder, queue, log, onQueued } = this.#deps;
		const count = encoder.seriesCount;
		if (count === 0) return;
		const request = encoder.take();
		this.#appending = this.#appending
			.then(() => queue.append(request))
			.then(onQueued)
			.catch((error: unknown) => {
				if (this.#lost === 0) log.warn('telemetry could not be queued for its push', { why: messageOf(error) });
				this.#lost += count;
			});
	}
}

function targetOf(entry: NodeEntry | undefined, nodeId: string): Labels {
	return [
		['instance', entry?.node.name ?? nodeId],
		['job', 'gpuaas'],
		['node', nodeId],
	];
}
