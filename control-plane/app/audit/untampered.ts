import { GpuaasError } from '../../../kit/error.ts';
import { verifyCommitments } from '../../../pki/verify/audit-chain.ts';
import type { AuditLeafRow } from '../../store/port/audit.ts';
import { type ParsedLeaf, parseLeaf } from './leaf.ts';

/**
 * The leaf of a row, after comparing what was copied out of it. Only the leaf is in the chain: whoever changes a copy
 * hides a record from a search or shows another in its place. Throws AUDIT_TAMPERED.
 *
 * A row that a changed copy keeps out of a search is never seen here: exporting, which reads all, finds it, and so does
 * `gpuaas audit verify`, which exports.
 */
export function untampered(row: AuditLeafRow): ParsedLeaf {
	const leaf = parseLeaf(row.leaf);
	if (leaf === undefined) throw tampered(row, 'its leaf can not be read');
	const differing = [
		leaf.id !== row.id && 'id',
		leaf.action !== row.action && 'action',
		leaf.target !== row.target && 'target',
		(leaf.organization ?? '') !== (row.organization ?? '') && 'organization',
		Date.parse(leaf.at) !== row.atMs && 'time',
	].filter((name) => name !== false);
	if (differing.length > 0) throw tampered(row, `its ${differing.join(', ')} beside the leaf differs from the leaf`);
	return leaf;
}

type Clear = Readonly<Record<string, { readonly salt: string; readonly value: string }>>;

/** The clear text of a row, after comparing it with what the leaf commits to. Throws AUDIT_TAMPERED. */
export function untamperedClear(row: AuditLeafRow): Clear {
	if (row.clear === null) return {};
	let fields: readonly string[];
	try {
		fields = verifyCommitments(row.leaf, row.clear).map(({ field }) => field);
	} catch {
		fields = ['all of it'];
	}
	if (fields.length > 0) throw tampered(row, `its clear text is not what the leaf commits to: ${fields.join(', ')}`);
	return JSON.parse(row.clear);
}

function tampered(row: AuditLeafRow, what: string): GpuaasError {
	const name = row.seq === null ? row.id : String(row.seq);
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'AUDIT_TAMPERED',
		message: `audit record ${name} can't be right: ${what}. Somebody changed the database; keep a copy of it as evidence and run gpuaas audit verify`,
		metadata: { record: name },
	});
}
