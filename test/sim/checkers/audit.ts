import { createHash, createPublicKey, verify } from 'node:crypto';
import type { History } from '../history.ts';
import type { Image, LeafRecord } from './image.ts';

/**
 * The audit log, recomputed from its bytes by the rules in design 07 alone: chain values, signed heads, positions; and
 * exactly one record for each change that the rest of the database shows.
 */
export function checkAudit(history: History, image: Image, anchored: readonly Head[]): void {
	checkChain(history, image);
	checkHeads(history, image, image.heads);
	// Signed heads that left the database bind it: what they cover can't be gone.
	checkHeads(history, image, anchored.slice(-1));
	checkRecords(history, image);
}

export interface Head {
	readonly size: number;
	readonly note: string;
}

/** Once everything is quiet every record has its position, and a head outside the database covers it. */
export function checkSealed(history: History, image: Image, anchored: readonly Head[]): void {
	const size = anchored.at(-1)?.size ?? 0;
	if (image.chain.length !== image.leaves.length || size !== image.leaves.length) {
		const message = `of ${image.leaves.length} records ${image.chain.length} are chained and ${size} covered by a head`;
		history.violate('everything-ends', message);
	}
}

const sha256 = (...parts: readonly Uint8Array[]): Buffer => {
	const hash = createHash('sha256');
	for (const part of parts) hash.update(part);
	return hash.digest();
};

function checkChain(history: History, { chain, leaves }: Image): void {
	const byOrd = new Map(leaves.map((leaf) => [leaf.ord, leaf]));
	let value: Uint8Array = new Uint8Array(32);
	for (const [index, link] of chain.entries()) {
		const leaf = byOrd.get(link.ord);
		if (link.seq !== index + 1 || leaf === undefined) {
			history.violate('audit-intact', `position ${index + 1} of the chain is ${link.seq}, or has no leaf`);
			return;
		}
		value = sha256(Uint8Array.of(1), value, sha256(Uint8Array.of(0), leaf.leaf));
		if (Buffer.compare(value, link.chain) !== 0) {
			history.violate('audit-intact', `the chain value at ${link.seq} does not follow from its leaf`);
			return;
		}
	}
	for (const leaf of leaves) {
		const content = JSON.parse(Buffer.from(leaf.leaf).toString('utf8')) as {
			id?: unknown;
			action?: unknown;
			target?: unknown;
		};
		if (content.id !== leaf.id || content.action !== leaf.action || content.target !== leaf.target)
			history.violate('audit-intact', `the columns of leaf ${leaf.id} are not what the leaf says`);
	}
}

/** C2SP signed note: text, empty line, `— <name> <base64 of 4-byte key hash and signature>`. */
function checkHeads(history: History, { chain, auditKeySpki }: Image, heads: readonly Head[]): void {
	if (heads.length === 0) return;
	const key = createPublicKey({ key: Buffer.from(auditKeySpki, 'base64'), format: 'der', type: 'spki' });
	for (const { size, note } of heads) {
		const [text = '', signatures = ''] = note.split('\n\n');
		const [, sizeLine, valueLine = ''] = text.split('\n');
		const signature = Buffer.from(signatures.trim().split(' ')[2] ?? '', 'base64').subarray(4);
		// A note that was once signed stays signed; what it says of the chain is compared every time.
		const isSigned = history.signedHeads.has(note) || verify(null, Buffer.from(`${text}\n`, 'utf8'), key, signature);
		if (isSigned) history.signedHeads.add(note);
		const value = chain[size - 1]?.chain;
		if (Number(sizeLine) !== size || !isSigned)
			history.violate('audit-intact', `the head of size ${size} is not signed by the audit key`);
		else if (value === undefined || Buffer.compare(value, Buffer.from(valueLine, 'base64')) !== 0)
			history.violate('audit-intact', `the head of size ${size} is of another chain, or its tail was cut off`);
	}
}

function checkRecords(history: History, image: Image): void {
	const counts = new Map<string, number>();
	for (const { action, target } of image.leaves) {
		const key = `${action} ${target}`;
		counts.set(key, (counts.get(key) ?? 0) + 1);
	}
	const exactly = (action: string, target: string, times: number) => {
		const found = counts.get(`${action} ${target}`) ?? 0;
		if (found !== times)
			history.violate('audit-intact', `${action} of ${target} is recorded ${found} times, and happened ${times} times`);
	};
	for (const { id } of image.tasks.values()) exactly('tasks.create', `tasks/${id}`, 1);
	for (const { id } of image.nodes.values()) exactly('nodes.enroll', `nodes/${id}`, 1);
	const created = countOf(image.leaves, 'tasks.create');
	if (created !== image.tasks.size)
		history.violate('audit-intact', `${created} tasks are recorded as created and ${image.tasks.size} exist`);
	for (const [taskId, times] of history.cancelled) {
		const found = counts.get(`tasks.cancel tasks/${taskId}`) ?? 0;
		if (found < times)
			history.violate(
				'audit-intact',
				`tasks.cancel of ${taskId} was answered ${times} times and is recorded ${found} times`,
			);
	}
}

function countOf(leaves: readonly LeafRecord[], action: string): number {
	return leaves.filter((leaf) => leaf.action === action).length;
}
