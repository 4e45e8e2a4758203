import { assert } from '../../../kit/assert.ts';
import type { Clock, Timer } from '../../../kit/clock.ts';
import type { SeededRng } from './random.ts';
import type { Trace } from './trace.ts';

/**
 * Virtual time. One heap of events; between two of them every promise that can go on has gone on (`quiesce`). Events of
 * one process that fall due together keep their order, those of different processes come in an order that the seed
 * chooses, because on real machines nobody orders them.
 *
 * A process is what a crash takes away: its timers never fire again, and whatever of its code still runs until its next
 * await finds all of its ports dead.
 */
interface Entry {
	readonly dueMs: number;
	readonly tie: number;
	readonly order: number;
	readonly process: SimProcess | undefined;
	readonly callback: () => void;
	cancelled: boolean;
}

/** Of the wall clock at the start of every run. */
export const EPOCH_MS = 1_800_000_000_000;
/** A deferred call waits for the I/O that is ready: some of it takes until then. */
const DEFER_MAX_MS = 2;

export class Scheduler {
	readonly trace: Trace;
	readonly #rng: SeededRng;
	readonly #heap: Entry[] = [];
	#elapsedMs = 0;
	#order = 0;
	#processes = 0;
	#tieSalt: number;

	constructor(rng: SeededRng, trace: Trace) {
		this.#rng = rng;
		this.trace = trace;
		this.#tieSalt = rng.int(0, 0x7fff_ffff);
	}

	get elapsedMs(): number {
		return this.#elapsedMs;
	}

	note(text: string): void {
		this.trace.line(this.#elapsedMs, text);
	}

	/** `wallOffsetMs`: how wrong the clock of its machine is. */
	process(name: string, wallOffset: { ms: number }): SimProcess {
		this.#processes += 1;
		return new SimProcess(this, this.#rng.fork(`process ${name}`), name, this.#processes, wallOffset);
	}

	/** Without a process: of the world itself, which never crashes. */
	after(delayMs: number, callback: () => void, process?: SimProcess): Timer {
		return this.at(this.#elapsedMs + Math.max(0, delayMs), callback, process);
	}

	at(dueMs: number, callback: () => void, process?: SimProcess): Timer {
		this.#order += 1;
		const tie = this.#tie(process?.id ?? 0, dueMs);
		const entry: Entry = { dueMs, tie, order: this.#order, process, callback, cancelled: false };
		this.#push(entry);
		return {
			cancel: () => {
				entry.cancelled = true;
			},
		};
	}

	/** Fires events up to `untilMs`; `afterEach` is called when the promises of each have settled, and ends it by true. */
	async run(untilMs: number, afterEach: () => boolean): Promise<void> {
		for (let next = this.#peek(); next !== undefined && next.dueMs <= untilMs; next = this.#peek()) {
			this.#pop();
			if (next.cancelled || next.process?.alive === false) continue;
			assert(next.dueMs >= this.#elapsedMs, 'virtual time never goes back');
			this.#elapsedMs = next.dueMs;
			next.callback();
			await quiesce();
			if (afterEach()) return;
		}
		this.#elapsedMs = Math.max(this.#elapsedMs, untilMs);
	}

	#tie(process: number, dueMs: number): number {
		let mixed = Math.imul((process * 0x9e37_79b1) ^ this.#tieSalt ^ Math.floor(dueMs * 1024), 0x85eb_ca6b);
		mixed ^= mixed >>> 13;
		return Math.imul(mixed, 0xc2b2_ae35) >>> 0;
	}

	#push(entry: Entry): void {
		const heap = this.#heap;
		heap.push(entry);
		let at = heap.length - 1;
		while (at > 0) {
			const parent = (at - 1) >> 1;
			const above = heap[parent] as Entry;
			if (!isBefore(entry, above)) break;
			heap[at] = above;
			at = parent;
		}
		heap[at] = entry;
	}

	#peek(): Entry | undefined {
		return this.#heap[0];
	}

	#pop(): void {
		const heap = this.#heap;
		const last = heap.pop() as Entry;
		if (heap.length === 0) return;
		let at = 0;
		for (;;) {
			const left = at * 2 + 1;
			if (left >= heap.length) break;
			const right = left + 1;
			const child = right < heap.length && isBefore(heap[right] as Entry, heap[left] as Entry) ? right : left;
			if (!isBefore(heap[child] as Entry, last)) break;
			heap[at] = heap[child] as Entry;
			at = child;
		}
		heap[at] = last;
	}
}

function isBefore(left: Entry, right: Entry): boolean {
	if (left.dueMs !== right.dueMs) return left.dueMs < right.dueMs;
	if (left.tie !== right.tie) return left.tie < right.tie;
	return left.order < right.order;
}

/**
 * Resolves when no promise can go on without a new event. Node runs its next-tick queue only once the microtask queue
 * is empty, and nothing but timers and I/O comes after both: so no real time passes and no real I/O can slip in.
 */
export function quiesce(): Promise<void> {
	return new Promise((resolve) => process.nextTick(resolve));
}

export class SimProcess {
	readonly name: string;
	readonly id: number;
	readonly rng: SeededRng;
	readonly clock: Clock;
	readonly #scheduler: Scheduler;
	readonly #onDeath: (() => void)[] = [];
	#alive = true;

	constructor(scheduler: Scheduler, rng: SeededRng, name: string, id: number, wallOffset: { ms: number }) {
		this.#scheduler = scheduler;
		this.rng = rng;
		this.name = name;
		this.id = id;
		const startedAtMs = scheduler.elapsedMs;
		const deferred = this.lane();
		this.clock = {
			now: () => Math.floor(EPOCH_MS + scheduler.elapsedMs + wallOffset.ms),
			monotonic: () => scheduler.elapsedMs - startedAtMs + 1000,
			// As Node does it: whole milliseconds, at least one, from the loop's own time, which has no fractions. So a
			// timer may fire a little before its delay has passed on the monotonic clock.
			setTimer: (callback, delayMs) =>
				scheduler.at(Math.floor(scheduler.elapsedMs) + Math.max(1, Math.floor(delayMs)), callback, this),
			defer: (callback) => deferred(rng.float() * DEFER_MAX_MS, callback),
		};
	}

	get alive(): boolean {
		return this.#alive;
	}

	/** An event of this process: none after its death. */
	after(delayMs: number, callback: () => void): Timer {
		return this.#scheduler.after(delayMs, callback, this);
	}

	/** Late by what is asked for, but never before what was put in earlier. */
	lane(): (delayMs: number, callback: () => void) => void {
		let lastDueMs = 0;
		return (delayMs, callback) => {
			lastDueMs = Math.max(lastDueMs, this.#scheduler.elapsedMs + delayMs);
			this.#scheduler.at(lastDueMs, callback, this);
		};
	}

	/** Called at the crash, in order of registration: ports die here. */
	onDeath(listener: () => void): void {
		this.#onDeath.push(listener);
	}

	kill(): void {
		if (!this.#alive) return;
		this.#alive = false;
		for (const listener of this.#onDeath) listener();
	}
}
