import { createHash } from 'node:crypto';
import { type ChainHead, ChainVerifier, logOfOrigin, type StoredLeaf, verifyChainHead } from './chain-head.ts';
import type { NoteKey } from './signed-note.ts';

/**
 * Checks an audit log without trust in whoever gave it: every record against the chain, the chain against signed heads
 * that were kept elsewhere. Finds an altered, reordered, inserted or missing record, and a tail that was cut off
 * anywhere below the newest head. Records after the newest head are checked against each other only.
 * Called by the CLI and by drills.
 */
export type AuditChainResult =
	| {
			readonly kind: 'verified';
			/** Records that a signed head covers. */
			readonly headSize: number;
			/** All records that were given. */
			readonly size: number;
	  }
	| {
			readonly kind: 'tampered';
			/** The first position (from 1) that can't be right. */
			readonly at: number;
			readonly what: string;
	  }
	/** Nothing can be said: absence of heads never verifies. */
	| { readonly kind: 'inconclusive'; readonly at: 0; readonly what: string };

/** `anchoredHeads`: signed notes, in any order; all must be of one log and signed by `key`. */
export async function verifyAuditChain(
	leaves: AsyncIterable<StoredLeaf>,
	anchoredHeads: readonly string[],
	key: NoteKey,
): Promise<AuditChainResult> {
	const heads: ChainHead[] = [];
	for (const note of anchoredHeads) {
		const checked = verifyChainHead(note, originOf(anchoredHeads[0] ?? ''), [key]);
		if (checked.kind === 'refused') {
			return { kind: 'inconclusive', at: 0, what: `a head can't be used: ${checked.message}` };
		}
		heads.push(checked.head);
	}
	const headSize = heads.reduce((largest, head) => Math.max(largest, head.size), 0);
	if (headSize === 0) return { kind: 'inconclusive', at: 0, what: 'there is no signed head to compare with' };
	const verifier = new ChainVerifier(heads);
	for await (const leaf of leaves) {
		const broken = verifier.add(leaf);
		if (broken !== undefined) return { kind: 'tampered', at: broken.seq, what: broken.message };
	}
	const result = verifier.finish();
	if (result.kind === 'broken') return { kind: 'tampered', at: result.seq, what: result.message };
	return { kind: 'verified', headSize, size: result.size };
}

/** The first line; a checkpoint of a Merkle log by the same key has another, and is refused. */
function originOf(note: string): string {
	const origin = note.slice(0, note.indexOf('\n'));
	return logOfOrigin(origin) === undefined ? 'an audit chain' : origin;
}

/** A field whose commitment in the leaf is not that of the clear text beside it. */
export interface CommitmentMismatch {
	readonly field: string;
	readonly what: 'not in the leaf' | 'another value';
}

/**
 * Holds clear text (JSON {field: {salt, value}}) against the commitments of its leaf: SHA-256(salt || value).
 * Empty when all fit. Throws SyntaxError for what is no JSON.
 */
export function verifyCommitments(leaf: Uint8Array, clear: string): readonly CommitmentMismatch[] {
	const { personal = {} }: { personal?: Readonly<Record<string, string>> } = JSON.parse(
		Buffer.from(leaf).toString('utf8'),
	);
	const fields: Readonly<Record<string, { readonly salt: string; readonly value: string }>> = JSON.parse(clear);
	const mismatches: CommitmentMismatch[] = [];
	for (const [field, { salt, value }] of Object.entries(fields)) {
		const committed = personal[field];
		const digest = createHash('sha256').update(Buffer.from(salt, 'hex')).update(value, 'utf8').digest('hex');
		if (committed === undefined) mismatches.push({ field, what: 'not in the leaf' });
		else if (committed !== digest) mismatches.push({ field, what: 'another value' });
	}
	return mismatches;
}
