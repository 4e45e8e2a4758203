import { type Clock, every, type Timer, yieldTurn } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { RollupChunk, Rollups } from '../../store/port/rollups.ts';
import { type Chunk, encodeChunk, MINUTE_MS } from './chunk.ts';
import type { SampleListener } from './ingest.ts';
import { NodeRoll } from './node-roll.ts';
import type { NodeSample } from './sample.ts';

/**
 * Rolls samples up into minutes and writes full chunks, many nodes in one commit. What a crash loses is less than a
 * chunk a node, and agents' rings have it. A disk that doesn't take chunks costs history, and nothing else: they wait,
 * bounded, and then the oldest is dropped and counted.
 */
export interface RollupWriterDeps {
	readonly clock: Clock;
	readonly log: Logger;
	readonly rollups: Rollups;
	readonly retentionMs: number;
	readonly bytesMax: number;
}

const WRITE_EVERY_MS = 1000;
const TRIM_EVERY_MS = 60_000;
/** Turns of one trim: 500 chunks each, which is what 10,000 nodes make in half a minute. */
const TRIM_TURNS = 8;
/** In one commit: some ms, so that no frame waits for it. */
const WRITE_CHUNKS_MAX = 500;
/** About two chunks a node of a large fleet. */
const WAITING_MAX = 20_000;

export class RollupWriter implements SampleListener, AsyncDisposable {
	readonly #deps: RollupWriterDeps;
	readonly #rolls = new Map<string, NodeRoll>();
	readonly #waiting: RollupChunk[] = [];
	readonly #timers: readonly Timer[];
	#working: Promise<void> | undefined;
	#dropped = 0;
	#failing = false;

	constructor(deps: RollupWriterDeps) {
		this.#deps = deps;
		const onError = (error: unknown) => deps.log.error('telemetry history failed', { error });
		this.#timers = [
			every(deps.clock, WRITE_EVERY_MS, () => void this.#write(), onError),
			every(deps.clock, TRIM_EVERY_MS, () => void this.#trim(), onError),
		];
	}

	onSample(sample: NodeSample, before: NodeSample | undefined): void {
		let roll = this.#rolls.get(sample.nodeId);
		if (roll === undefined) {
			roll = new NodeRoll(1 + (Number.parseInt(sample.nodeId.slice(-4), 16) % 10 || 0));
			this.#rolls.set(sample.nodeId, roll);
		}
		this.#keep(sample.nodeId, roll.observe(sample, before));
	}

	onSilence(nodeId: string): void {
		const roll = this.#rolls.get(nodeId);
		this.#rolls.delete(nodeId);
		this.#keep(nodeId, roll?.end());
	}

	/** What isn't on disk yet. */
	unwritten(nodeId: string): readonly (RollupChunk | Chunk)[] {
		const open = this.#rolls.get(nodeId)?.peek();
		const waiting = this.#waiting.filter((chunk) => chunk.nodeId === nodeId);
		return open === undefined ? waiting : [...waiting, open];
	}

	/** Chunks that were never written, since the start. */
	get dropped(): number {
		return this.#dropped;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const timer of this.#timers) timer.cancel();
		for (const nodeId of [...this.#rolls.keys()]) this.onSilence(nodeId);
		await this.#working;
		await this.#write();
	}

	#keep(nodeId: string, chunk: Chunk | undefined): void {
		if (chunk === undefined) return;
		const { fromMs, minutes } = chunk;
		this.#waiting.push({ nodeId, fromMs, untilMs: fromMs + minutes * MINUTE_MS, blob: encodeChunk(chunk) });
		const over = this.#waiting.length - WAITING_MAX;
		if (over <= 0) return;
		this.#waiting.splice(0, over);
		this.#dropped += over;
	}

	#write(): Promise<void> {
		this.#working ??= this.#writeNow().finally(() => {
			this.#working = undefined;
		});
		return this.#working;
	}

	async #writeNow(): Promise<void> {
		try {
			while (this.#waiting.length > 0) {
				const batch = this.#waiting.slice(0, WRITE_CHUNKS_MAX);
				const droppedBefore = this.#dropped;
				await this.#deps.rollups.append(batch);
				// What had to make room meanwhile was the oldest: of this batch.
				this.#waiting.splice(0, Math.max(0, batch.length - (this.#dropped - droppedBefore)));
				this.#failing = false;
				if (this.#waiting.length > 0) await yieldTurn(this.#deps.clock);
			}
		} catch (error) {
			if (!this.#failing) this.#deps.log.warn('telemetry history was not written', { why: messageOf(error) });
			this.#failing = true;
		}
	}

	async #trim(): Promise<void> {
		const { rollups, clock, retentionMs, bytesMax, log } = this.#deps;
		try {
			for (let turn = 0; turn < TRIM_TURNS; turn += 1)
				if ((await rollups.trim(clock.now() - retentionMs, bytesMax)) === 0) return;
		} catch (error) {
			log.warn('telemetry history was not trimmed', { why: messageOf(error) });
		}
	}
}
