import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '@connectrpc/connect';
import { GpuaasError } from '../kit/error.ts';
import { verifyAuditChain } from '../pki/verify/audit-chain.ts';
import { type NoteKey, parseNoteKey } from '../pki/verify/signed-note.ts';
import type { AuditService } from '../proto/gen/gpuaas/audit/v1/audit_pb.ts';

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
	const keyPath = keyFile ?? (local === undefined ? undefined : join(local, 'audit.vkey'));
	if (paths.length === 0 || keyPath === undefined) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message:
				'name the heads and the key to compare with: --anchors FILE --key FILE; the operator has both, agents keep the newest head',
			metadata: { exit: '2' },
		});
	}
	const key = parseNoteKey((await readFile(keyPath, 'utf8')).trim());
	if (key === undefined) throw damaged(keyPath);
	const notes: string[] = [];
	for (const path of paths) notes.push(...notesOf(path, await readFile(path, 'utf8')));
	return { notes, key };
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

function damaged(path: string): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'CONFIG_INVALID',
		message: `${path} is damaged or of another kind; get it from the operator again`,
	});
}

export interface AuditCheck {
	readonly ok: boolean;
	readonly message: string;
	readonly size: number;
}

/** Recomputes the chain over what the control plane serves and holds it against the anchors. */
export async function verifyAudit(client: Client<typeof AuditService>, anchors: Anchors): Promise<AuditCheck> {
	const leaves = async function* () {
		for await (const { leaves: page } of client.exportAudit({ fromSeq: 1n })) {
			for (const { seq, leaf, chain } of page) yield { seq: Number(seq), leaf, chain };
		}
	};
	const result = await verifyAuditChain(leaves(), anchors.notes, anchors.key);
	if (result.kind === 'verified') {
		return { ok: true, message: `verified to anchored head ${result.headSize}`, size: result.headSize };
	}
	const where = result.kind === 'tampered' ? `record ${result.at} can't be right: ` : '';
	return { ok: false, message: `NOT verified: ${where}${result.what}`, size: result.at };
}
