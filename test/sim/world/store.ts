import type { Store, Tx, UnitOptions } from '../../../control-plane/store/port/store.ts';
import type { Plan } from '../../../control-plane/store/port/unit.ts';
import { SqliteStore } from '../../../control-plane/store/sqlite/store.ts';
import type { SimProcess } from './scheduler.ts';

/**
 * The real SQLite store, in memory, on a disk that fails, and whose process may die at any of its commits: just before
 * one (nothing of it happened) or just after (it happened, and nobody was told).
 */
export interface StoreDisk {
	fault: 'FULL' | 'IOERR' | undefined;
	/** Reads fail too. */
	failsReads: boolean;
	/** Units until the control plane dies at one; and on which side of its commit. */
	crashIn: number | undefined;
	crashSide: 'before' | 'after';
}

export class SimStore implements Store {
	readonly dialect = 'sqlite';
	readonly #inner: SqliteStore;
	readonly #disk: StoreDisk;
	readonly #process: SimProcess;
	readonly #die: () => void;
	#older: Uint8Array | undefined;

	constructor(image: Uint8Array | null, disk: StoreDisk, process: SimProcess, die: () => void) {
		this.#disk = disk;
		this.#process = process;
		this.#die = die;
		const fault = (at: 'commit' | 'read') => (at === 'commit' || disk.failsReads ? disk.fault : undefined);
		this.#inner = new SqliteStore({ at: { memory: image }, clock: process.clock, fault });
	}

	async unit<T>(plan: (tx: Tx) => Plan<T>, options?: UnitOptions): Promise<T> {
		const isLast = this.#isLastUnit();
		if (isLast && this.#disk.crashSide === 'before') this.#die();
		if (!this.#process.alive) return await never();
		const value = await (options === undefined ? this.#inner.unit(plan) : this.#inner.unit(plan));
		if (isLast) this.#die();
		return this.#process.alive ? value : await never();
	}

	async read<T>(plan: (tx: Tx) => Plan<T>): Promise<T> {
		return this.#process.alive ? await this.#inner.read(plan) : await never();
	}

	check(): Promise<void> {
		return this.#process.alive ? this.#inner.check() : never();
	}

	checkIsolation(): Promise<string | undefined> {
		return this.#inner.checkIsolation();
	}

	now(): Promise<number> {
		return this.#inner.now();
	}

	/** The last commit, for checkers and for the next life. */
	snapshot(): Uint8Array {
		return this.#inner.snapshot();
	}

	/** From now on commits are acknowledged that no crash will keep. */
	forgetFromHere(): void {
		this.#older ??= this.#inner.snapshot();
	}

	crash(): Uint8Array {
		const bytes = this.#inner.crash();
		return this.#older ?? bytes;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#inner[Symbol.asyncDispose]();
	}

	#isLastUnit(): boolean {
		if (this.#disk.crashIn === undefined) return false;
		this.#disk.crashIn -= 1;
		if (this.#disk.crashIn > 0) return false;
		this.#disk.crashIn = undefined;
		return true;
	}
}

/** What a dead process waits for. */
function never<T>(): Promise<T> {
	return new Promise<T>(() => {});
}
