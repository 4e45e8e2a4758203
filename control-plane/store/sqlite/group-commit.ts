import { assert } from '../../../kit/assert.ts';
import type { Clock } from '../../../kit/clock.ts';
import { closed, storeUnavailable } from '../errors.ts';
import type { Plan } from '../port/unit.ts';
import type { SqliteConnection } from './connection.ts';
import { sqliteError } from './errors.ts';

/**
 * Group commit: units that wait while another commit is under way share the next one, each in its own savepoint, so
 * that many callers share one fsync and one caller waits for nobody. No timer: whatever is queued when the previous
 * commit has ended goes next. A promise settles only after COMMIT, also that of a unit that threw, because what it saw
 * may be undone with the rest; a failed COMMIT rejects all of them.
 */
export interface GroupCommitOptions {
	/** In one commit. Bounds how long the event loop stands still. Default 256. */
	readonly batchUnitsMax?: number;
	/** Waiting units; past this `unit` is refused with STORE_UNAVAILABLE. Default 10,000. */
	readonly queueUnitsMax?: number;
}

interface Waiting {
	/** Runs the unit in its savepoint and gives what settles its promise after COMMIT, and what it threw. */
	readonly run: () => { readonly settle: () => void; readonly error?: unknown };
	readonly reject: (error: unknown) => void;
}

export class GroupCommit {
	readonly #connection: SqliteConnection;
	readonly #clock: Clock;
	readonly #batchUnitsMax: number;
	readonly #queueUnitsMax: number;
	#queue: Waiting[] = [];
	#scheduled = false;
	#closed = false;

	constructor(connection: SqliteConnection, clock: Clock, options: GroupCommitOptions = {}) {
		this.#connection = connection;
		this.#clock = clock;
		this.#batchUnitsMax = options.batchUnitsMax ?? 256;
		this.#queueUnitsMax = options.queueUnitsMax ?? 10_000;
	}

	unit<T>(plan: () => Plan<T>): Promise<T> {
		return new Promise<T>((resolve, reject) => {
			if (this.#closed) {
				reject(closed());
				return;
			}
			if (this.#queue.length >= this.#queueUnitsMax) {
				reject(storeUnavailable(`has ${this.#queueUnitsMax} writes waiting, which is its limit`));
				return;
			}
			const run = () => {
				try {
					const value = this.#connection.savepoint(plan);
					return { settle: () => resolve(value) };
				} catch (error) {
					return { settle: () => reject(error), error };
				}
			};
			this.#queue.push({ run, reject });
			this.#schedule();
		});
	}

	/** Commits what is queued, then refuses. */
	close(): void {
		this.#closed = true;
		while (this.#queue.length > 0) this.#commitBatch();
	}

	/** As a crash: what is queued never happens and its promises never settle. */
	abandon(): void {
		this.#closed = true;
		this.#queue = [];
	}

	#schedule(): void {
		if (this.#scheduled) return;
		this.#scheduled = true;
		this.#clock.defer(() => {
			this.#scheduled = false;
			if (this.#queue.length > 0) this.#commitBatch();
			if (this.#queue.length > 0) this.#schedule();
		});
	}

	#commitBatch(): void {
		const batch = this.#queue.splice(0, this.#batchUnitsMax);
		const settles: (() => void)[] = [];
		try {
			assert(!this.#connection.inTransaction, 'a commit began inside another one');
			this.#connection.begin();
			for (const waiting of batch) {
				const { settle, error } = waiting.run();
				settles.push(settle);
				// SQLite gave up the whole transaction, as when the disk is full: nothing of this batch remains.
				if (!this.#connection.inTransaction) throw error ?? storeUnavailable('gave up a whole batch of writes');
			}
			this.#connection.commit();
		} catch (error) {
			try {
				this.#connection.rollback();
			} finally {
				const mapped = sqliteError(error);
				for (const waiting of batch) waiting.reject(mapped);
			}
			return;
		}
		for (const settle of settles) settle();
	}
}
