import { present } from '../../kit/assert.ts';
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

/** Everything that a crash leaves; plain data that structuredClone takes. */
export interface JournalState {
	factSeq: bigint;
	ackedSeq: bigint;
	facts: Map<bigint, Uint8Array>;
	attempts: Map<string, { row: AttemptRow; endedSeq: bigint | null }>;
	replay: Map<string, { taskId: string; attempt: number; fencingToken: bigint; acceptedAtMs: number }>;
	grants: Map<string, GrantRow>;
	/** How many of them each holder has, and each person of a holder. */
	shares: Map<string, number>;
	settings: Map<string, string>;
}

export interface MemoryJournalOptions extends Partial<JournalLimits> {
	/** What `committed` of an earlier journal gave. */
	readonly state?: JournalState;
	/** Asked before each commit: the fault that this commit meets. */
	readonly fault?: () => 'FULL' | 'IOERR' | undefined;
}

function emptyState(): JournalState {
	return {
		factSeq: 0n,
		ackedSeq: 0n,
		facts: new Map(),
		attempts: new Map(),
		replay: new Map(),
		grants: new Map(),
		shares: new Map(),
		settings: new Map(),
	};
}

const sharesOf = ({ holder, person }: GrantRow) => [holder, `${holder}\u0000${person}`];

const keyOf = (taskId: string, attempt: number) => `${taskId}/${attempt}`;

/**
 * The simulation's journal: as the SQLite one, without a disk. A transaction that fails is undone step by step, so a
 * commit costs what it changed. `committed` is what a crash at this moment would leave.
 */
export class MemoryJournal implements Journal {
	readonly #state: JournalState;
	readonly #limits: JournalLimits;
	readonly #fault: () => 'FULL' | 'IOERR' | undefined;
	#listener: () => void = () => {};
	#undo: (() => void)[] | undefined;
	#appended = false;
	#bytes = 0;
	/** Keys of attempts that wait for their ack or for their output to be stored. */
	readonly #finished = new Set<string>();
	/** Highest proven attempt ever seen of each task; a hint that may be too high after a failed transaction. */
	readonly #latest = new Map<string, number>();

	constructor(options: MemoryJournalOptions = {}) {
		const { state, fault = () => undefined, ...limits } = options;
		this.#state = state === undefined ? emptyState() : structuredClone(state);
		this.#limits = { ...JOURNAL_LIMITS_DEFAULT, ...limits };
		this.#fault = fault;
		this.#index();
		for (const bytes of this.#state.facts.values()) this.#bytes += factBytes(bytes);
		for (const { row } of this.#state.attempts.values()) this.#bytes += attemptBytes(row);
		this.#bytes += this.#state.replay.size * REPLAY_BYTES;
	}

	/** A copy of the last commit. */
	committed(): JournalState {
		return structuredClone(this.#state);
	}

	transaction<T>(change: () => T): T {
		if (this.#undo !== undefined) return change();
		const undo: (() => void)[] = [];
		this.#undo = undo;
		const bytesBefore = this.#bytes;
		this.#appended = false;
		try {
			const result = change();
			const fault = this.#fault();
			if (fault !== undefined) throw journalFailure(fault);
			this.#undo = undefined;
			if (this.#appended) this.#listener();
			return result;
		} catch (error) {
			if (this.#undo === undefined) throw error;
			this.#undo = undefined;
			for (const step of undo.reverse()) step();
			this.#bytes = bytesBefore;
			this.#restoreOrder();
			this.#index();
			throw error;
		}
	}

	appendFacts(facts: readonly Fact[]): readonly Fact[] {
		return this.transaction(() =>
			facts.map((fact) => {
				this.#setSeq(this.#state.factSeq + 1n);
				const seq = this.#state.factSeq;
				const encoded = encodeFact(fact);
				this.#set(this.#state.facts, seq, encoded);
				this.#bytes += factBytes(encoded);
				this.#appended = true;
				const ended = endedBy(fact);
				const key = ended && keyOf(ended.taskId, ended.attempt);
				const known = key && this.#state.attempts.get(key);
				if (key && known) this.#set(this.#state.attempts, key, { ...known, endedSeq: seq });
				return decodeFact(seq, encoded);
			}),
		);
	}

	listFacts(afterSeq: bigint, limit: number): readonly Fact[] {
		const found: Fact[] = [];
		// Insertion order is ascending: seqs only rise, and renumbering keeps the order.
		for (const [seq, encoded] of this.#state.facts) {
			if (found.length >= limit) break;
			if (seq > afterSeq) found.push(decodeFact(seq, encoded));
		}
		return found;
	}

	ackFacts(seq: bigint): void {
		this.transaction(() => {
			if (seq > this.#state.factSeq) return this.#renumberAbove(seq);
			for (const [known, encoded] of this.#state.facts) {
				if (known > seq) break;
				this.#delete(this.#state.facts, known);
				this.#bytes -= factBytes(encoded);
			}
			if (seq <= this.#state.ackedSeq) return;
			this.#setAcked(seq);
			for (const key of [...this.#finished]) {
				const entry = this.#state.attempts.get(key);
				if (entry !== undefined) this.#putEntry(key, entry);
			}
		});
	}

	lastFactSeq(): bigint {
		return this.#state.factSeq;
	}

	onFacts(listener: () => void): void {
		this.#listener = listener;
	}

	getAttempt(taskId: string, attempt: number): AttemptRow | undefined {
		const key = keyOf(taskId, attempt);
		const kept = this.#state.replay.get(key);
		return (
			this.#state.attempts.get(key)?.row ??
			(kept && replayRow(kept.taskId, kept.attempt, kept.fencingToken, kept.acceptedAtMs))
		);
	}

	latestAttempt(taskId: string): AttemptRow | undefined {
		for (let attempt = this.#latest.get(taskId) ?? 0; attempt > 0; attempt -= 1) {
			const row = this.getAttempt(taskId, attempt);
			if (row !== undefined && row.fencingToken > 0n) return row;
		}
		return undefined;
	}

	putAttempt(row: AttemptRow): void {
		this.transaction(() => {
			const key = keyOf(row.taskId, row.attempt);
			const before = this.#state.attempts.get(key);
			this.#bytes += attemptBytes(row) - (before === undefined ? 0 : attemptBytes(before.row));
			this.#putEntry(key, { row: Object.freeze({ ...row }), endedSeq: before?.endedSeq ?? null });
		});
	}

	listOpenAttempts(): readonly AttemptRow[] {
		return [...this.#state.attempts.values()].map(({ row }) => row).filter((row) => row.phase !== 'done');
	}

	listOutputPending(): readonly AttemptRow[] {
		return this.listOpenAttempts().filter(
			(row) => !row.outputStored && (row.phase === 'started' || row.phase === 'cancelling' || row.phase === 'finished'),
		);
	}

	prune(beforeMs: number): void {
		this.transaction(() => {
			for (const [key, { row }] of this.#state.attempts) {
				if (row.phase !== 'done' || row.acceptedAtMs >= beforeMs) continue;
				const { taskId, attempt, fencingToken, acceptedAtMs } = row;
				this.#delete(this.#state.attempts, key);
				this.#set(this.#state.replay, key, { taskId, attempt, fencingToken, acceptedAtMs });
				this.#bytes += REPLAY_BYTES - attemptBytes(row);
			}
			for (const [key, kept] of this.#state.replay) {
				if (kept.acceptedAtMs >= beforeMs - this.#limits.replayKeepMs) continue;
				this.#delete(this.#state.replay, key);
				this.#bytes -= REPLAY_BYTES;
			}
		});
	}

	hasGrant(id: string): boolean {
		return this.#state.grants.has(id);
	}

	takeGrant(grant: GrantRow, nowMs: number): boolean {
		return this.transaction(() => {
			const { grants, shares } = this.#state;
			// Those that came first end first: whatever an odd one leaves goes with the next.
			for (const [old, row] of grants) {
				if (row.keepUntilMs >= nowMs) break;
				this.#delete(grants, old);
				for (const share of sharesOf(row)) this.#setShare(share, (shares.get(share) ?? 0) - 1);
			}
			if (grants.has(grant.id)) return false;
			const [held = 0, own = 0] = sharesOf(grant).map((share) => shares.get(share) ?? 0);
			const { grantsMax } = this.#limits;
			const kept = grants.size;
			if (!isWithinShare(held, kept, grantsMax)) throw shareIsUsed();
			if (!isWithinOwnShare(own, { held, kept }, grantsMax)) throw ownShareIsUsed();
			this.#set(grants, grant.id, { ...grant });
			for (const share of sharesOf(grant)) this.#setShare(share, (shares.get(share) ?? 0) + 1);
			return true;
		});
	}

	getSetting(name: string): string | undefined {
		return this.#state.settings.get(name);
	}

	putSetting(name: string, value: string): void {
		this.transaction(() => this.#set(this.#state.settings, name, value));
	}

	usage(): { readonly bytes: number; readonly bytesMax: number; readonly unackedFacts: number } {
		return { bytes: this.#bytes, bytesMax: this.#limits.bytesMax, unackedFacts: this.#state.facts.size };
	}

	close(): void {
		this.#listener = () => {};
	}

	/** Stores an attempt; a finished one whose end is acknowledged and whose output is stored becomes `done`. */
	#putEntry(key: string, entry: { row: AttemptRow; endedSeq: bigint | null }): void {
		const { row, endedSeq } = entry;
		const acked = endedSeq !== null && endedSeq <= this.#state.ackedSeq;
		const done = row.phase === 'finished' && row.outputStored && acked;
		this.#set(
			this.#state.attempts,
			key,
			done ? { row: Object.freeze({ ...row, phase: 'done' as const }), endedSeq } : entry,
		);
		this.#note(key, done ? 'done' : row.phase, row);
	}

	#note(key: string, phase: AttemptRow['phase'], row: AttemptRow): void {
		if (phase === 'finished') this.#finished.add(key);
		else this.#finished.delete(key);
		this.#seen(row);
	}

	#seen({ taskId, attempt, fencingToken }: Pick<AttemptRow, 'taskId' | 'attempt' | 'fencingToken'>): void {
		if (fencingToken > 0n) this.#latest.set(taskId, Math.max(attempt, this.#latest.get(taskId) ?? 0));
	}

	#index(): void {
		this.#finished.clear();
		for (const [key, { row }] of this.#state.attempts) this.#note(key, row.phase, row);
		for (const kept of this.#state.replay.values()) this.#seen(kept);
	}

	/** What came back from a failed transaction stands at the end of its map: facts are read in ascending order. */
	#restoreOrder(): void {
		const facts = [...this.#state.facts].sort(([a], [b]) => (a < b ? -1 : 1));
		this.#state.facts.clear();
		for (const [seq, encoded] of facts) this.#state.facts.set(seq, encoded);
	}

	#renumberAbove(seq: bigint): void {
		const facts = [...this.#state.facts];
		const first = facts[0]?.[0] ?? 0n;
		for (const [old] of facts) this.#delete(this.#state.facts, old);
		for (const [old, encoded] of facts) this.#set(this.#state.facts, old - first + seq + 1n, encoded);
		for (const [key, entry] of this.#state.attempts) {
			if (entry.endedSeq === null || entry.endedSeq < first) continue;
			this.#set(this.#state.attempts, key, { ...entry, endedSeq: entry.endedSeq - first + seq + 1n });
		}
		this.#setSeq(seq + BigInt(facts.length));
		this.#setAcked(seq);
		this.#appended = facts.length > 0;
	}

	#setShare(holder: string, held: number): void {
		if (held > 0) this.#set(this.#state.shares, holder, held);
		else this.#delete(this.#state.shares, holder);
	}

	#setSeq(seq: bigint): void {
		const before = this.#state.factSeq;
		this.#undoWith(() => {
			this.#state.factSeq = before;
		});
		this.#state.factSeq = seq;
	}

	#setAcked(seq: bigint): void {
		const before = this.#state.ackedSeq;
		this.#undoWith(() => {
			this.#state.ackedSeq = before;
		});
		this.#state.ackedSeq = seq;
	}

	#set<K, V>(map: Map<K, V>, key: K, value: V): void {
		const had = map.has(key);
		const before = map.get(key) as V;
		this.#undoWith(() => (had ? map.set(key, before) : map.delete(key)));
		map.set(key, value);
	}

	#delete<K, V>(map: Map<K, V>, key: K): void {
		const before = map.get(key) as V;
		this.#undoWith(() => map.set(key, before));
		map.delete(key);
	}

	#undoWith(step: () => void): void {
		present(this.#undo, 'the journal changes inside a transaction only').push(step);
	}
}
