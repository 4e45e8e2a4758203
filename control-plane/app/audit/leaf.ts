import { hash } from 'node:crypto';
import { GpuaasError } from '../../../kit/error.ts';
import { hex, type Rng } from '../../../kit/ids.ts';
import type { Custody } from '../../store/port/nodes.ts';
import { type CanonicalValue, canonicalJson } from './canonical-json.ts';

/**
 * The leaf of the audit log: canonical bytes with their version inside, which never change once written and which a
 * transparency log can adopt. What is personal or easily guessed stands there as a commitment, SHA-256(salt || value)
 * with a salt of 128 bits for each field; value and salt are kept beside the log and can be erased.
 */
const LEAF_VERSION = 1;
/** What a tlog-tiles entry can hold. */
export const LEAF_BYTES_MAX = 65_535;
const SALT_BYTES = 16;

export interface LeafContent {
	/** UUIDv7. */
	readonly id: string;
	readonly atMs: number;
	readonly actor: { readonly kind: string; readonly id: string; readonly credentialId: string };
	/** `<noun>.<verb>`. */
	readonly action: string;
	readonly target: string;
	readonly result: 'ok' | 'denied' | 'failed';
	readonly reason: string;
	readonly method: string;
	readonly correlationId: string;
	readonly requestId: string;
	/** Empty when it is about no organization. */
	readonly organization: string;
	/** Empty when it is about no node. */
	readonly custody: Custody | '';
	readonly beforeSha256: string;
	readonly afterSha256: string;
	readonly detail: Readonly<Record<string, string | number | boolean>>;
	/** To be committed; empty values are left out. */
	readonly personal: Readonly<Record<string, string>>;
}

export interface SealedLeaf {
	readonly leaf: Uint8Array;
	/** JSON {field: {salt, value}}, salt in hex; null when nothing was committed. */
	readonly clear: string | null;
}

export function sealLeaf(content: LeafContent, rng: Rng): SealedLeaf {
	const commitments: Record<string, string> = {};
	const clear: Record<string, { readonly salt: string; readonly value: string }> = {};
	let committed = false;
	for (const [field, text] of Object.entries(content.personal)) {
		if (text === '') continue;
		const value = text.toWellFormed();
		const salt = rng.bytes(SALT_BYTES);
		commitments[field] = commitment(salt, value);
		clear[field] = { salt: hex(salt), value };
		committed = true;
	}
	const leaf = Buffer.from(leafText(content, commitments), 'utf8');
	if (leaf.length > LEAF_BYTES_MAX) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: `the audit record of ${content.action} would have ${leaf.length} bytes, and ${LEAF_BYTES_MAX} is the limit; nothing was done. Send a smaller request`,
		});
	}
	return { leaf, clear: committed ? canonicalJson(clear) : null };
}

/** Canonical JSON: the names stand in their order here, which saves sorting them for every record. */
function leafText(content: LeafContent, commitments: Readonly<Record<string, string>>): string {
	const { actor } = content;
	const text = (value: string) => JSON.stringify(value.toWellFormed());
	return `{"action":${text(content.action)},"actor":{"credentialId":${text(actor.credentialId)},"id":${text(actor.id)},\
"kind":${text(actor.kind)}},"afterSha256":${text(content.afterSha256)},"at":"${new Date(content.atMs).toISOString()}",\
"beforeSha256":${text(content.beforeSha256)},"correlationId":${text(content.correlationId)},\
"custody":${text(content.custody)},"detail":${canonicalJson(content.detail)},"id":${text(content.id)},\
"method":${text(content.method)},"organization":${text(content.organization)},"personal":${canonicalJson(commitments)},\
"reason":${text(content.reason)},"requestId":${text(content.requestId)},"result":${text(content.result)},\
"target":${text(content.target)},"v":${LEAF_VERSION}}`;
}

/** Hex SHA-256(salt || UTF-8 of value). */
function commitment(salt: Uint8Array, value: string): string {
	return hash('sha256', Buffer.concat([salt, Buffer.from(value, 'utf8')]), 'hex');
}

/** A leaf read back; fields of later versions are ignored. Undefined for bytes that are no leaf of ours. */
export function parseLeaf(leaf: Uint8Array): ParsedLeaf | undefined {
	let value: unknown;
	try {
		value = JSON.parse(Buffer.from(leaf).toString('utf8'));
	} catch {
		return undefined;
	}
	if (typeof value !== 'object' || value === null || !('v' in value) || !('id' in value)) return undefined;
	return value as ParsedLeaf;
}

export type ParsedLeaf = Omit<LeafContent, 'atMs' | 'detail' | 'personal'> & {
	readonly v: number;
	/** RFC 3339. */
	readonly at: string;
	readonly detail: { readonly [name: string]: CanonicalValue };
	/** Field -> hex commitment. */
	readonly personal: Readonly<Record<string, string>>;
};
