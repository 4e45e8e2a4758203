import type { AttemptRow, GrantRow, Journal } from '../../../agent/journal/journal.ts';
import { type JournalState, MemoryJournal } from '../../../agent/journal/memory.ts';
import { journalFailure } from '../../../agent/journal/rows.ts';
import type { Fact } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * The agent's real in-memory journal on a disk that fails: full, broken, or gone with its agent just before or just
 * after a commit. Every commit of the agent passes here.
 */
export interface JournalDisk {
	/** The fault that the next commits meet. */
	fault: 'FULL' | 'IOERR' | undefined;
	/** Commits until the agent dies at one; and on which side of it. */
	crashIn: number | undefined;
	crashSide: 'before' | 'after';
}

export class SimJournal implements Journal {
	readonly #inner: MemoryJournal;
	readonly #disk: JournalDisk;
	readonly #die: () => void;
	#depth = 0;

	constructor(state: JournalState | undefined, disk: JournalDisk, die: () => void, bytesMax: number) {
		this.#inner = new MemoryJournal({ ...(state === undefined ? {} : { state }), fault: () => disk.fault, bytesMax });
		this.#disk = disk;
		this.#die = die;
	}

	committed(): JournalState {
		return this.#inner.committed();
	}

	transaction<T>(change: () => T): T {
		if (this.#depth > 0) return this.#inner.transaction(change);
		const isLast = this.#isLastCommit();
		if (isLast && this.#disk.crashSide === 'before') {
			this.#die();
			throw journalFailure('IOERR');
		}
		this.#depth += 1;
		try {
			return this.#inner.transaction(change);
		} finally {
			this.#depth -= 1;
			if (isLast && this.#disk.crashSide === 'after') this.#die();
		}
	}

	appendFacts(facts: readonly Fact[]): readonly Fact[] {
		return this.transaction(() => this.#inner.appendFacts(facts));
	}

	listFacts(afterSeq: bigint, limit: number): readonly Fact[] {
		return this.#inner.listFacts(afterSeq, limit);
	}

	ackFacts(seq: bigint): void {
		this.transaction(() => this.#inner.ackFacts(seq));
	}

	lastFactSeq(): bigint {
		return this.#inner.lastFactSeq();
	}

	onFacts(listener: () => void): void {
		this.#inner.onFacts(listener);
	}

	hasGrant(id: string): boolean {
		return this.#inner.hasGrant(id);
	}

	takeGrant(grant: GrantRow, nowMs: number): boolean {
		return this.transaction(() => this.#inner.takeGrant(grant, nowMs));
	}

	getAttempt(taskId: string, attempt: number): AttemptRow | undefined {
		return this.#inner.getAttempt(taskId, attempt);
	}

	latestAttempt(taskId: string): AttemptRow | undefined {
		return this.#inner.latestAttempt(taskId);
	}

	putAttempt(row: AttemptRow): void {
		this.transaction(() => this.#inner.putAttempt(row));
	}

	listOpenAttempts(): readonly AttemptRow[] {
		return this.#inner.listOpenAttempts();
	}

	listOutputPending(): readonly AttemptRow[] {
		return this.#inner.listOutputPending();
	}

	prune(beforeMs: number): void {
		this.transaction(() => this.#inner.prune(beforeMs));
	}

	getSetting(name: string): string | undefined {
		return this.#inner.getSetting(name);
	}

	putSetting(name: string, value: string): void {
		this.transaction(() => this.#inner.putSetting(name, value));
	}

	usage() {
		return this.#inner.usage();
	}

	close(): void {
		this.#inner.close();
	}

	#isLastCommit(): boolean {
		if (this.#disk.crashIn === undefined) return false;
		this.#disk.crashIn -= 1;
		if (this.#disk.crashIn > 0) return false;
		this.#disk.crashIn = undefined;
		return true;
	}
}
