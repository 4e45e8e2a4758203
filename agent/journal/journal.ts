import type { Fact } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * The agent's memory: everything that must not be lost until the control plane has acknowledged it, and everything
 * that must not happen twice. On disk (better-sqlite3, WAL, synchronous=FULL); in memory in the simulation, behind the
 * same contract suite (test/contract/journal). Synchronous: when a call returns, what it wrote survives kill -9 and
 * power loss. Bounded: past `bytesMax` it takes no new tasks (JOURNAL_FULL) and still takes facts of running ones.
 */
export interface Journal {
	/** Numbers and stores facts in one commit; returns them with `seq` set. Wakes `onFacts`. */
	appendFacts(facts: readonly Fact[]): readonly Fact[];
	/** Unacknowledged facts with seq > `afterSeq`, ascending. */
	listFacts(afterSeq: bigint, limit: number): readonly Fact[];
	/**
	 * Forgets facts up to and including `seq`; a finished attempt whose output is stored is then `done`. Not synced: an
	 * ack that power loss undoes only makes the facts come again. An ack above all that was ever given out means that
	 * this journal was lost and made anew: the facts in it are then renumbered above the ack instead of forgotten.
	 */
	ackFacts(seq: bigint): void;
	/** Highest seq ever given out: rises across restarts. */
	lastFactSeq(): bigint;
	/** Called after each append, for the link's sender; one listener. */
	onFacts(listener: () => void): void;

	/**
	 * Runs `change` in one durable commit: an attempt's state and the facts about it change together or not at all.
	 * Facts appended inside are numbered inside. A transaction inside a transaction joins it, so that a batch of
	 * commands costs one sync; `onFacts` is called after the outermost commit.
	 */
	transaction<T>(change: () => T): T;

	getAttempt(taskId: string, attempt: number): AttemptRow | undefined;
	/** The newest attempt of a task that this agent saw; without those of token 0, which nobody has proven. */
	latestAttempt(taskId: string): AttemptRow | undefined;
	putAttempt(row: AttemptRow): void;
	/** Attempts that aren't done. */
	listOpenAttempts(): readonly AttemptRow[];
	/** Attempts whose output isn't stored in the control plane yet. */
	listOutputPending(): readonly AttemptRow[];
	/** Drops done attempts older than `beforeMs` whose facts are acknowledged, keeping (task, attempt, fencing token) for replay checks. */
	prune(beforeMs: number): void;

	/** Whether it was taken, and is kept. Reads only: answers on a full disk, too. */
	hasGrant(id: string): boolean;
	/**
	 * Takes a one-time grant, durably; false when it was taken before, however full it is. None is let go early: throws
	 * JOURNAL_FULL when its holder keeps as many as there is room left for all others (`grantsMax`), or its person as many
	 * as that leaves to the others of the holder.
	 */
	takeGrant(grant: GrantRow, nowMs: number): boolean;

	/** Small durable settings: command stream and cursor, last audit head. */
	getSetting(name: string): string | undefined;
	putSetting(name: string, value: string): void;

	usage(): { readonly bytes: number; readonly bytesMax: number; readonly unackedFacts: number };
	close(): void;
}

export interface GrantRow {
	readonly id: string;
	/** The organization that it was signed for; empty for the platform itself. Each has a share of its own. */
	readonly holder: string;
	/** Who ordered it: each of a holder's people has a share of the holder's. */
	readonly person: string;
	/** When its signature has expired by any clock of this host. */
	readonly keepUntilMs: number;
}

/** accepted -> started -> finished (or refused from accepted). `done` = receipt acknowledged and output stored. */
export type AttemptPhase = 'accepted' | 'cancelling' | 'started' | 'finished' | 'done';

export interface AttemptRow {
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: bigint;
	readonly phase: AttemptPhase;
	/** Exact payload bytes of the envelope. */
	readonly envelope: Uint8Array;
	readonly envelopeSha256: Uint8Array;
	readonly acceptedAtMs: number;
	/** Of the boot that accepted it: tells a process host that forgot from a machine that restarted. */
	readonly bootId: string;
	readonly cancelReason: string;
	readonly outputStored: boolean;
}
