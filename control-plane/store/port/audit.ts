import type { Plan } from './unit.ts';

/**
 * Append-only (triggers refuse UPDATE and DELETE of leaves, chain and heads). A leaf is appended in the business
 * transaction without a position; one sequencer chains after commit.
 */
export interface AuditLeafRow {
	/** Position in the chain from 1; null while not yet chained. */
	readonly seq: number | null;
	/** UUIDv7, also inside the leaf. */
	readonly id: string;
	/** Canonical bytes (RFC 8785 JSON). */
	readonly leaf: Uint8Array;
	/** Chain value after this leaf, 32 bytes; null while not yet chained. */
	readonly chain: Uint8Array | null;
	/** JSON {field: {salt, value}} of committed fields; null once erased. */
	readonly clear: string | null;
	/** Copied out of the leaf for queries; the leaf is the truth: app/audit/untampered.ts compares. */
	readonly action: string;
	readonly target: string;
	/** Null when it is about no organization. */
	readonly organization: string | null;
	/** 1 when who did it belonged to that organization then, or has no name to hide; null: not known. Not in the leaf. */
	readonly actorIsOwn: number | null;
	readonly atMs: number;
}

export interface AuditHeadRow {
	readonly size: number;
	/** C2SP signed note. */
	readonly note: string;
	readonly atMs: number;
}

export interface AuditFilter {
	readonly limit: number;
	/** Exact, or a prefix that ends in `.`; empty: all. */
	readonly action: string;
	readonly target: string;
	/** Of one of these; null: of all and of none. */
	readonly organizations: readonly string[] | null;
	/** Written before the leaf with this id; absent: whenever. */
	readonly beforeId?: string;
}

export interface AuditLog {
	append(row: Omit<AuditLeafRow, 'seq' | 'chain'>): Plan<void>;
	/** Not yet chained, in order of commit as far as known, at most `limit`. */
	listUnchained(limit: number): Plan<readonly AuditLeafRow[]>;
	/** Of those without a position, the newest that match, newest first. */
	queryUnchained(filter: AuditFilter): Plan<readonly AuditLeafRow[]>;
	/** Gives positions; refused by the store when `seq` is not exactly the next one. */
	chain(rows: readonly { readonly id: string; readonly seq: number; readonly chain: Uint8Array }[]): Plan<void>;
	/** Position of the leaf with this id: null while not yet chained, undefined when there is no such leaf. */
	seqOf(id: string): Plan<number | null | undefined>;
	/** The last chained leaf; undefined when none. */
	last(): Plan<AuditLeafRow | undefined>;
	/** Chained leaves with seq >= `fromSeq`, ascending. */
	list(fromSeq: number, limit: number): Plan<readonly AuditLeafRow[]>;
	/** Chained leaves that match, newest or oldest first, beyond `afterSeq` in that direction (null: from the start). */
	query(
		filter: AuditFilter & { readonly afterSeq: number | null; readonly newestFirst: boolean },
	): Plan<readonly AuditLeafRow[]>;
	putHead(row: AuditHeadRow): Plan<void>;
	lastHead(): Plan<AuditHeadRow | undefined>;
	listHeads(afterSize: number | null, limit: number, newestFirst: boolean): Plan<readonly AuditHeadRow[]>;
	/** Erases the clear text behind the commitments of a leaf; the leaf stays. */
	eraseClear(id: string): Plan<void>;
}
