import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { GpuaasError } from '../kit/error.ts';
import { logOfOrigin } from '../pki/verify/chain-head.ts';
import { damaged, type ServedLeaf } from './verify-audit.ts';

/** What `audit export` wrote, line by line: a log need not fit into memory. */
interface ExportLine {
	readonly seq?: unknown;
	readonly leaf?: unknown;
	readonly chain?: unknown;
	readonly clear?: unknown;
	readonly head?: { readonly note?: unknown };
}

export async function* exportedLeaves(path: string): AsyncGenerator<ServedLeaf> {
	for await (const { seq, leaf, chain, clear, head } of linesOf(path)) {
		if (head !== undefined) continue;
		const isWhole = [seq, leaf, chain, clear].every((value) => typeof value === 'string');
		if (!isWhole || !/^\d{1,15}$/.test(String(seq))) throw damaged(path);
		yield { seq: BigInt(String(seq)), leaf: bytes(leaf), chain: bytes(chain), clear: Buffer.from(String(clear)) };
	}
}

/** The notes of the heads; of the newest log, when one was begun after a loss. */
export async function exportedHeads(path: string): Promise<readonly string[]> {
	let newest = 0;
	let notes: string[] = [];
	for await (const { head } of linesOf(path)) {
		if (head === undefined) continue;
		if (typeof head.note !== 'string') throw damaged(path);
		const log = logOfOrigin(head.note.split('\n', 1)[0] ?? '') ?? 0;
		if (log > newest) [newest, notes] = [log, []];
		if (log === newest) notes.push(head.note);
	}
	return notes;
}

function bytes(base64: unknown): Uint8Array<ArrayBuffer> {
	return new Uint8Array(Buffer.from(String(base64), 'base64'));
}

async function* linesOf(path: string): AsyncGenerator<ExportLine> {
	const input = createReadStream(path);
	// Without a listener of its own, a file that isn't there would end the process.
	const failed = new Promise<never>((_, reject) => input.once('error', reject));
	failed.catch(() => {});
	await Promise.race([new Promise((opened) => input.once('open', opened)), failed]).catch((error: Error) => {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: `${path} can't be read: ${error.message}`,
		});
	});
	for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
		if (line.trim() === '') continue;
		yield parse(line, path);
	}
}

function parse(line: string, path: string): ExportLine {
	try {
		const parsed: unknown = JSON.parse(line);
		if (typeof parsed === 'object' && parsed !== null) return parsed;
	} catch {
		// One message for both.
	}
	throw damaged(path);
}
