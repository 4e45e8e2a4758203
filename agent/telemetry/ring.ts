import { withoutOld } from '../../proto/telemetry-schema/age.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import type { Part } from './part.ts';

/**
 * The newest hours of what this host measured, in memory: for each moment and part one block of numbers, oldest dropped.
 * What was read too long before its sample is not in it. Two limits bound it, age and bytes, so that a 1 s watch shortens
 * the history instead of growing the agent.
 */
export interface RingLimits {
	/** Default 3 h. */
	readonly keepMs: number;
	/** Default 12 MiB: 3 h at 15 s of 8 GPUs with all their values and 144 links take 9. */
	readonly bytesMax: number;
}

export const RING_LIMITS_DEFAULT: RingLimits = Object.freeze({ keepMs: 3 * 3_600_000, bytesMax: 12 * 1024 * 1024 });

/** Rows of one part at one moment. Names are shared with the moment before, as long as they are the same. */
export interface Block {
	readonly names: readonly { readonly id: string; readonly index: number }[];
	/** Values of a row. */
	readonly width: number;
	readonly values: Float64Array;
}

export interface RingMoment {
	/** Wall clock. */
	readonly atMs: number;
	/** Monotonic clock: ascending, whatever the wall clock did. */
	readonly takenMs: number;
	readonly blocks: ReadonlyMap<TelemetryPart, Block>;
	readonly bytes: number;
}

/** Objects and headers of a moment and of a block, roughly. */
const MOMENT_BYTES = 300;
const BLOCK_BYTES = 200;

export class TelemetryRing {
	readonly #limits: RingLimits;
	#moments: RingMoment[] = [];
	#head = 0;
	#bytes = 0;
	readonly #names = new Map<TelemetryPart, Block['names']>();

	constructor(limits: RingLimits = RING_LIMITS_DEFAULT) {
		this.#limits = limits;
	}

	get bytes(): number {
		return this.#bytes;
	}

	/** `takenMs`: monotonic clock. */
	add(atMs: number, takenMs: number, parts: ReadonlyMap<TelemetryPart, readonly Part[]>): void {
		const blocks = new Map<TelemetryPart, Block>();
		let bytes = MOMENT_BYTES;
		for (const [part, rows] of parts) {
			if (rows.length === 0) continue;
			const block = this.#pack(part, rows);
			blocks.set(part, block);
			bytes += BLOCK_BYTES + block.values.byteLength;
		}
		this.#moments.push({ atMs, takenMs, blocks, bytes });
		this.#bytes += bytes;
		this.#dropOld(takenMs);
	}

	/** Oldest first. */
	*moments(): Generator<RingMoment> {
		for (let at = this.#head; at < this.#moments.length; at += 1) {
			const moment = this.#moments[at];
			if (moment !== undefined) yield moment;
		}
	}

	get oldestAtMs(): number | undefined {
		return this.#moments[this.#head]?.atMs;
	}

	#pack(part: TelemetryPart, rows: readonly Part[]): Block {
		const former = this.#names.get(part);
		const isSame =
			former?.length === rows.length &&
			rows.every(({ id, index }, at) => former[at]?.id === id && former[at]?.index === index);
		const names = isSame ? former : rows.map(({ id, index }) => ({ id, index }));
		this.#names.set(part, names);
		const width = rows[0]?.values.length ?? 0;
		const values = new Float64Array(rows.length * width);
		for (const [at, row] of rows.entries()) values.set(withoutOld(CURRENT_SCHEMA[part], row.values), at * width);
		return { names, width, values };
	}

	#dropOld(nowMs: number): void {
		for (;;) {
			const oldest = this.#moments[this.#head];
			if (oldest === undefined || this.#moments.length - this.#head === 1) break;
			if (this.#bytes <= this.#limits.bytesMax && nowMs - oldest.takenMs <= this.#limits.keepMs) break;
			this.#bytes -= oldest.bytes;
			this.#head += 1;
		}
		// What is dead goes when it is a lot, so that each moment moves a bounded number of times; till then it is held.
		if (this.#head < 32 || this.#head * 8 < this.#moments.length) return;
		this.#moments = this.#moments.slice(this.#head);
		this.#head = 0;
	}
}
