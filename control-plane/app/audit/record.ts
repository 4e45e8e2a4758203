import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type AuditRecord, AuditRecordSchema } from '../../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import type { AuditLeafRow } from '../../store/port/audit.ts';
import { canonicalJson } from './canonical-json.ts';
import { untampered, untamperedClear } from './untampered.ts';

/**
 * A leaf as people read it: personal facts in clear text where that was not erased, else as their commitment. The
 * actor is its name, or its id where it has none. All of it is out of the leaf. Throws AUDIT_TAMPERED for a row whose
 * copies or clear text differ from it. `names`: whose name, address and credential are shown; undefined: everybody's.
 */
export function auditRecord(row: AuditLeafRow, names: ReadonlySet<string> | undefined): AuditRecord {
	const leaf = untampered(row);
	const isNamed = names === undefined || names.has(row.id);
	const clear = untamperedClear(row);
	const detail: Record<string, string | number | boolean> = {};
	for (const [name, value] of Object.entries(leaf.detail)) {
		if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') detail[name] = value;
	}
	for (const [name, commitment] of Object.entries(leaf.personal)) {
		if (name !== 'actor' && name !== 'peer') detail[name] = clear[name]?.value ?? `sha256:${commitment}`;
	}
	return create(AuditRecordSchema, {
		seq: BigInt(row.seq ?? 0),
		at: timestampFromMs(Date.parse(leaf.at)),
		action: leaf.action,
		target: leaf.target,
		actor: isNamed ? (clear.actor?.value ?? leaf.actor.id) : '',
		actorKind: leaf.actor.kind,
		organization: leaf.organization,
		result: leaf.result,
		decisionReason: leaf.reason,
		correlationId: leaf.correlationId,
		requestId: leaf.requestId,
		peer: isNamed ? (clear.peer?.value ?? '') : '',
		credentialId: isNamed ? leaf.actor.credentialId : '',
		detail: canonicalJson(detail),
		beforeSha256: leaf.beforeSha256,
		afterSha256: leaf.afterSha256,
		custody: leaf.custody,
	});
}
