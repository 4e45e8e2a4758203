import Database from 'better-sqlite3';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Fact } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AttemptRow, GrantRow, Journal } from './journal.ts';
import {
	attemptBytes,
	decodeFact,
	encodeFact,
	endedBy,
	factBytes,
	isWithinOwnShare,
	isWithinShare,
	JOURNAL_LIMITS_DEFAULT,
	type JournalLimits,
	journalFailure,
	ownShareIsUsed,
	REPLAY_BYTES,
	replayRow,
	shareIsUsed,
} from './rows.ts';
import {
	GRANTS_FREED_TOGETHER,
	migrate,
	SQL,
	type StoredAttempt,
	type StoredFact,
	type StoredReplay,
} from './sqlite-schema.ts';

export interface SqliteJournalOptions extends Partial<JournalLimits> {
	/** In a folder of the agent's own; 0600 by the folder's mode. */
	readonly path: string;
}

interface CachedAttempt {
	readonly row: AttemptRow;
	endedSeq: bigint | null;
}

/** Deleting facts one by one would double the cost of each. */
const ACKS_WRITTEN_TOGETHER = 64n;

/**
 * The journal on disk. One connection, one process (an exclusive lock: a second agent on the same file fails at once
 * instead of giving a fact number out twice). Every commit is synced. Acknowledgements are kept in memory and written
 * with a later commit: one that a crash forgets makes a few facts come twice, and a commit for each would cost as much
 * as the facts. Rows of open attempts are read from memory, where the last commit left them.
 */
export class SqliteJournal implements Journal {
	readonly #db: Database.Database;
	readonly #limits: JournalLimits;
	readonly #sql: ReturnType<typeof prepareAll>;
	#listener: () => void = () => {};
	#depth = 0;
	#appended = false;
	#counters = { factSeq: 0n, ackedSeq: 0n, writtenAck: 0n, bytes: 0 };
	readonly #open = new Map<string, CachedAttempt>();

	constructor(options: SqliteJournalOptions) {
		const { path, ...limits } = options;
		this.#limits = { ...JOURNAL_LIMITS_DEFAULT, ...limits };
		this.#db = openLocked(path);
		this.#sql = prepareAll(this.#db);
		this.#loadCounters();
	}

	transaction<T>(change: () => T): T {
		if (this.#depth > 0) return change();
		const before = this.#counters;
		this.#appended = false;
		this.#counters = { ...before };
		this.#depth += 1;
		let result: T;
		try {
			this.#sql.begin.run();
			if (before.ackedSeq - before.writtenAck >= ACKS_WRITTEN_TOGETHER) this.#writeAck();
			result = change();
			this.#sql.commit.run();
		} catch (error) {
			this.#counters = before;
			this.#open.clear();
			if (this.#db.inTransaction) this.#sql.rollback.run();
			throw failureOf(error);
		} finally {
			this.#depth -= 1;
		}
		if (this.#appended) this.#listener();
		return result;
	}

	appendFacts(facts: readonly Fact[]): readonly Fact[] {
		return this.transaction(() => facts.map((fact) => this.#append(fact)));
	}

	#append(fact: Fact): Fact {
		const seq = this.#counters.factSeq + 1n;
		const encoded = encodeFact(fact);
		this.#sql.insertFact.run(seq, encoded);
		const ended = endedBy(fact);
		if (ended !== undefined) {
			this.#sql.setEnded.run(seq, ended.taskId, ended.attempt);
			const cached = this.#open.get(`${ended.taskId}/${ended.attempt}`);
			if (cached !== undefined) cached.endedSeq = seq;
		}
		this.#counters.factSeq = seq;
		this.#counters.bytes += factBytes(encoded);
		this.#appended = true;
		return { ...fact, seq };
	}

	listFacts(afterSeq: bigint, limit: number): readonly Fact[] {
		const from = afterSeq > this.#counters.ackedSeq ? afterSeq : this.#counters.ackedSeq;
		return (this.#sql.listFacts.all(from, limit) as StoredFact[]).map((row) => decodeFact(row.seq, row.bytes));
	}

	ackFacts(seq: bigint): void {
		if (seq <= this.#counters.ackedSeq) return;
		if (seq > this.#counters.factSeq) this.transaction(() => this.#renumberAbove(seq));
		else this.#counters.ackedSeq = seq;
	}

	/** Facts that nobody needs go, and what waited for them is done. In a transaction. */
	#writeAck(): void {
		const { ackedSeq, writtenAck, factSeq } = this.#counters;
		if (ackedSeq === writtenAck) return;
		const freed = this.#sql.sumFacts.get(ackedSeq) as { count: bigint; bytes: bigint };
		this.#sql.deleteFacts.run(ackedSeq);
		this.#sql.settle.run(ackedSeq);
		this.#counters.bytes -= Number(freed.bytes) + Number(freed.count) * factBytes(new Uint8Array());
		this.#counters.writtenAck = ackedSeq;
		// The empty name can't be a setting's. Facts may all be gone: the highest seq must survive that.
		this.#sql.putSetting.run('', `${factSeq}`);
		for (const [key, { row, endedSeq }] of this.#open) if (isDone(row, endedSeq, ackedSeq)) this.#open.delete(key);
	}

	#renumberAbove(seq: bigint): void {
		this.#writeAck();
		const first = (this.#sql.listFacts.get(0n, 1) as StoredFact | undefined)?.seq ?? 0n;
		const by = seq + 1n - first;
		// Through negative numbers, because SQLite checks the primary key row by row.
		this.#sql.negateFacts.run(by);
		this.#sql.restoreFacts.run();
		this.#sql.moveEnded.run(by, first);
		const count = this.#counters.factSeq - this.#counters.ackedSeq;
		this.#counters.factSeq = seq + count;
		this.#counters.ackedSeq = seq;
		this.#open.clear();
		this.#writeAck();
		this.#appended = count > 0n;
	}

	lastFactSeq(): bigint {
		return this.#counters.factSeq;
	}

	onFacts(listener: () => void): void {
		this.#listener = listener;
	}

	getAttempt(taskId: string, attempt: number): AttemptRow | undefined {
		const found = this.#find(taskId, attempt);
		if (found !== undefined) return this.#asOfNow(found);
		const kept = this.#sql.getReplay.get(taskId, attempt) as StoredReplay | undefined;
		return kept && replayOf(kept);
	}

	#find(taskId: string, attempt: number): CachedAttempt | undefined {
		const key = `${taskId}/${attempt}`;
		const cached = this.#open.get(key);
		if (cached !== undefined) return cached;
		const stored = this.#sql.getAttempt.get(taskId, attempt) as StoredAttempt | undefined;
		if (stored === undefined) return undefined;
		const found = { row: attemptOf(stored), endedSeq: stored.ended_seq };
		if (found.row.phase !== 'done') this.#open.set(key, found);
		return found;
	}

	/** An acknowledgement that isn't written yet counts. */
	#asOfNow({ row, endedSeq }: CachedAttempt): AttemptRow {
		return isDone(row, endedSeq, this.#counters.ackedSeq) ? { ...row, phase: 'done' } : row;
	}

	latestAttempt(taskId: string): AttemptRow | undefined {
		const stored = this.#sql.latestAttempt.get(taskId) as StoredAttempt | undefined;
		const kept = this.#sql.latestReplay.get(taskId) as StoredReplay | undefined;
		if (kept === undefined || (stored !== undefined && stored.attempt > kept.attempt))
			return stored && this.#asOfNow({ row: attemptOf(stored), endedSeq: stored.ended_seq });
		return replayOf(kept);
	}

	putAttempt(row: AttemptRow): void {
		assert(row.attempt > 0, 'attempts count from 1');
		this.transaction(() => {
			const before = this.#find(row.taskId, row.attempt);
			const endedSeq = before?.endedSeq ?? null;
			this.#counters.bytes += attemptBytes(row) - (before === undefined ? 0 : attemptBytes(before.row));
			const phase = isDone(row, endedSeq, this.#counters.ackedSeq) ? 'done' : row.phase;
			this.#sql.putAttempt.run({ ...row, phase, outputStored: row.outputStored ? 1 : 0 });
			const key = `${row.taskId}/${row.attempt}`;
			if (phase === 'done') this.#open.delete(key);
			else this.#open.set(key, { row: { ...row }, endedSeq });
		});
	}

	/** Writes no acknowledgement for it: Hello asks, and a full disk must not keep this host from its control plane. */
	listOpenAttempts(): readonly AttemptRow[] {
		return (this.#sql.listOpen.all() as StoredAttempt[])
			.map((stored) => this.#asOfNow({ row: attemptOf(stored), endedSeq: stored.ended_seq }))
			.filter(({ phase }) => phase !== 'done');
	}

	listOutputPending(): readonly AttemptRow[] {
		return (this.#sql.listOutputPending.all() as StoredAttempt[]).map(attemptOf);
	}

	prune(beforeMs: number): void {
		this.transaction(() => {
			this.#writeAck();
			const dropped = this.#sql.sumPrunable.get(beforeMs) as { count: bigint; bytes: bigint };
			this.#sql.keepReplay.run(beforeMs);
			this.#sql.deletePrunable.run(beforeMs);
			const forgotten = this.#sql.deleteReplay.run(beforeMs - this.#limits.replayKeepMs).changes;
			const count = Number(dropped.count);
			this.#counters.bytes -= Number(dropped.bytes) + count * attemptBytes({ envelope: new Uint8Array() });
			this.#counters.bytes += (count - forgotten) * REPLAY_BYTES;
		});
	}

	hasGrant(id: string): boolean {
		return this.#sql.getGrant.get(id) !== undefined;
	}

	/** Why there is no room, in words; undefined when there is. */
	#shareFault({ holder, person }: GrantRow): GpuaasError | undefined {
		const sums = this.#sql.sumGrants.get(holder) as { held: bigint; kept: bigint };
		const own = this.#sql.getOwn.get(holder, person) as { held: bigint } | undefined;
		const held = Number(sums.held);
		const kept = Number(sums.kept);
		const { grantsMax } = this.#limits;
		if (!isWithinShare(held, kept, grantsMax)) return shareIsUsed();
		return isWithinOwnShare(Number(own?.held ?? 0n), { held, kept }, grantsMax) ? undefined : ownShareIsUsed();
	}

	takeGrant(grant: GrantRow, nowMs: number): boolean {
		return this.transaction(() => {
			const free = () => this.#sql.deleteGrants.run(nowMs).changes === GRANTS_FREED_TOGETHER;
			let isMore = free();
			if (this.hasGrant(grant.id)) return false;
			for (;;) {
				const fault = this.#shareFault(grant);
				if (fault === undefined) break;
				if (!isMore) throw fault;
				isMore = free();
			}
			this.#sql.putGrant.run(grant);
			return true;
		});
	}

	getSetting(name: string): string | undefined {
		return (this.#sql.getSetting.get(name) as { value: string } | undefined)?.value;
	}

	putSetting(name: string, value: string): void {
		assert(name !== '', "a setting has a name: the empty one is the journal's own");
		this.transaction(() => this.#sql.putSetting.run(name, value));
	}

	usage(): { readonly bytes: number; readonly bytesMax: number; readonly unackedFacts: number } {
		const { bytes, factSeq, ackedSeq } = this.#counters;
		// Numbers have no gaps above the ack.
		return { bytes, bytesMax: this.#limits.bytesMax, unackedFacts: Number(factSeq - ackedSeq) };
	}

	close(): void {
		this.#listener = () => {};
		try {
			if (this.#counters.ackedSeq !== this.#counters.writtenAck) this.transaction(() => this.#writeAck());
		} finally {
			this.#db.close();
		}
	}

	#loadCounters(): void {
		const facts = this.#sql.sumFacts.get(2n ** 62n) as { count: bigint; bytes: bigint };
		const attempts = this.#sql.sumAttempts.get() as { count: bigint; bytes: bigint };
		const replay = this.#sql.countReplay.get() as { count: bigint };
		const last = this.#sql.lastFact.get() as { seq: bigint | null };
		const kept = BigInt(this.getSetting('') ?? '0');
		const factSeq = last.seq !== null && last.seq > kept ? last.seq : kept;
		const first = (this.#sql.listFacts.get(0n, 1) as StoredFact | undefined)?.seq;
		const ackedSeq = first === undefined ? factSeq : first - 1n;
		this.#counters = {
			factSeq,
			ackedSeq,
			writtenAck: ackedSeq,
			bytes:
				Number(facts.bytes) +
				Number(facts.count) * factBytes(new Uint8Array()) +
				Number(attempts.bytes) +
				Number(attempts.count) * attemptBytes({ envelope: new Uint8Array() }) +
				Number(replay.count) * REPLAY_BYTES,
		};
	}
}

/** A process that is just ending may still hold the lock. */
const LOCK_WAIT_MS = 500;

function openLocked(path: string): Database.Database {
	const db = new Database(path, { timeout: LOCK_WAIT_MS });
	try {
		db.defaultSafeIntegers(true);
		db.pragma('locking_mode = EXCLUSIVE');
		db.pragma('journal_mode = WAL');
		db.pragma('synchronous = FULL');
		db.exec('BEGIN IMMEDIATE');
		migrate(db);
		db.exec('COMMIT');
		return db;
	} catch (error) {
		db.close();
		if (!(error instanceof Database.SqliteError) || error.code !== 'SQLITE_BUSY') throw failureOf(error);
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'STORE_UNAVAILABLE',
			message: `the journal ${path} is locked: another agent runs on this host with the same data folder; stop one of them`,
			cause: error,
		});
	}
}

function prepareAll(db: Database.Database) {
	const prepared = {} as Record<keyof typeof SQL, Database.Statement>;
	for (const [name, text] of Object.entries(SQL)) {
		// The plus changes no value and hides it from the planner: SQLite with STAT4, as we are given it, would else plan
		// a query with a limit or an order again at each execution (measured: 60 µs in place of 8).
		prepared[name as keyof typeof SQL] = db.prepare(text.replaceAll('?', '+?'));
	}
	return Object.freeze(prepared);
}

function attemptOf(stored: StoredAttempt): AttemptRow {
	return {
		taskId: stored.task_id,
		attempt: Number(stored.attempt),
		fencingToken: stored.fencing_token,
		phase: stored.phase,
		envelope: new Uint8Array(stored.envelope),
		envelopeSha256: new Uint8Array(stored.envelope_sha256),
		acceptedAtMs: Number(stored.accepted_at_ms),
		bootId: stored.boot_id,
		cancelReason: stored.cancel_reason,
		outputStored: stored.output_stored === 1n,
	};
}

function replayOf(kept: StoredReplay): AttemptRow {
	return replayRow(kept.task_id, Number(kept.attempt), kept.fencing_token, Number(kept.accepted_at_ms));
}

/** The end of a finished attempt was acknowledged, and its output is stored. */
function isDone(row: AttemptRow, endedSeq: bigint | null, ackedSeq: bigint): boolean {
	return row.phase === 'finished' && row.outputStored && endedSeq !== null && endedSeq <= ackedSeq;
}

function failureOf(error: unknown): unknown {
	const code = error instanceof Database.SqliteError ? error.code : '';
	if (code === 'SQLITE_FULL') return journalFailure('FULL', error);
	return code.startsWith('SQLITE_IOERR') ? journalFailure('IOERR', error) : error;
}
