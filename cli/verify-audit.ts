import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GpuaasError } from '../kit/error.ts';
import { verifyAuditChain, verifyCommitments } from '../pki/verify/audit-chain.ts';
import { logOfOrigin } from '../pki/verify/chain-head.ts';
import { type NoteKey, parseNoteKey } from '../pki/verify/signed-note.ts';
import type { AuditLeaf } from '../proto/gen/gpuaas/audit/v1/audit_pb.ts';

/** Signed heads that left the database, and the key that they verify with. */
export interface Anchors {
	readonly notes: readonly string[];
	readonly key: NoteKey;
}

/** From the named files, else from the data folder of a control plane on this machine. */
export async function readAnchors(
	files: readonly string[],
	keyFile: string | undefined,
	data: string | undefined,
): Promise<Anchors> {
	const local = data === undefined ? undefined : join(data, 'control-plane');
	const paths = files.length > 0 ? files : local === undefined ? [] : [join(local, 'audit-heads.jsonl')];
	const key = await readLocalKey(keyFile, data);
	if (paths.length === 0) throw nothingToCompare();
	const notes: string[] = [];
	for (const path of paths) notes.push(...notesOf(path, await readFile(path, 'utf8')));
	return { notes, key };
}

/** The named key, else that of a control plane on this machine. */
export async function readLocalKey(keyFile: string | undefined, data: string | undefined): Promise<NoteKey> {
	const path = keyFile ?? (data === undefined ? undefined : join(data, 'control-plane', 'audit.vkey'));
	if (path === undefined) throw nothingToCompare();
	return readAuditKey(path);
}

function nothingToCompare(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message:
			'name the heads and the key to compare with: --anchors FILE --key FILE; the operator has both, agents keep the newest head',
		metadata: { exit: '2' },
	});
}

export async function readAuditKey(path: string): Promise<NoteKey> {
	const key = parseNoteKey((await readFile(path, 'utf8')).trim());
	if (key === undefined) throw damaged(path);
	return key;
}

/** One note as text, or a JSON document a line with a `note` field. */
function notesOf(path: string, text: string): readonly string[] {
	if (!text.startsWith('{')) return [text];
	return text
		.split('\n')
		.filter((line) => line.trim() !== '')
		.map((line) => {
			try {
				const { note } = JSON.parse(line) as { note?: unknown };
				if (typeof note === 'string') return note;
			} catch {
				// One message for both.
			}
			throw damaged(path);
		});
}

export function damaged(path: string): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'CONFIG_INVALID',
		message: `${path} is damaged or of another kind; get it from the operator again`,
	});
}

/** As `exportAudit` serves it, or as a file has it. */
export type ServedLeaf = Pick<AuditLeaf, 'seq' | 'leaf' | 'chain' | 'clear'>;

export interface AuditCheck {
	readonly ok: boolean;
	readonly message: string;
	readonly size: number;
}

/**
 * Recomputes the chain over what is served and holds it against the anchors, and clear text against the
 * commitments in its leaf: the chain doesn't cover clear text.
 */
export async function verifyAudit(served: AsyncIterable<ServedLeaf>, anchors: Anchors): Promise<AuditCheck> {
	let forged: { readonly seq: number; readonly what: string } | undefined;
	const leaves = async function* () {
		for await (const { seq, leaf, chain, clear } of served) {
			const what = clear.length === 0 ? undefined : forgedClear(leaf, clear);
			if (what !== undefined) forged ??= { seq: Number(seq), what };
			yield { seq: Number(seq), leaf, chain };
		}
	};
	const result = await verifyAuditChain(leaves(), anchors.notes, anchors.key);
	if (forged !== undefined && (result.kind === 'verified' || (result.kind === 'tampered' && forged.seq < result.at))) {
		return {
			ok: false,
			message: `NOT verified: record ${forged.seq} can't be right: ${forged.what}`,
			size: forged.seq,
		};
	}
	if (result.kind === 'verified') {
		const log = logOfOrigin(anchors.notes[0]?.split('\n', 1)[0] ?? '') ?? 1;
		const later = log === 1 ? '' : ` of log ${log}, begun after a loss: see gpuaas audit list --action audit.new-log`;
		return { ok: true, message: `verified to anchored head ${result.headSize}${later}`, size: result.headSize };
	}
	const where = result.kind === 'tampered' ? `record ${result.at} can't be right: ` : '';
	return { ok: false, message: `NOT verified: ${where}${result.what}`, size: result.at };
}

/** Undefined when the clear text is what the leaf commits to. */
function forgedClear(leaf: Uint8Array, clear: Uint8Array): string | undefined {
	try {
		const [mismatch] = verifyCommitments(leaf, Buffer.from(clear).toString('utf8'));
		if (mismatch === undefined) return undefined;
		return `the clear text of ${JSON.stringify(mismatch.field)} is not what the leaf commits to (${mismatch.what})`;
	} catch {
		return 'its clear text can not be read';
	}
}
