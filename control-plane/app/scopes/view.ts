import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Scope, ScopeKind, ScopeSchema, ScopeState } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { ScopeKind as RowKind, ScopeState as RowState, ScopeRow } from '../../store/port/scopes.ts';
import { etagOf } from '../iam/etag.ts';

const KIND: Readonly<Record<RowKind, ScopeKind>> = {
	platform: ScopeKind.PLATFORM,
	organization: ScopeKind.ORGANIZATION,
	department: ScopeKind.DEPARTMENT,
	project: ScopeKind.PROJECT,
};

const STATE: Readonly<Record<RowState, ScopeState>> = {
	active: ScopeState.ACTIVE,
	suspended: ScopeState.SUSPENDED,
	locked: ScopeState.SUSPENDED,
	deleting: ScopeState.DELETING,
	deleted: ScopeState.DELETED,
};

export function rowKindOf(kind: ScopeKind): RowKind | undefined {
	return (Object.keys(KIND) as RowKind[]).find((name) => KIND[name] === kind);
}

export function scopeMessage(row: ScopeRow): Scope {
	return create(ScopeSchema, {
		name: row.name,
		kind: KIND[row.kind],
		parent: row.parent ?? '',
		displayName: row.displayName,
		state: STATE[row.state],
		stateReason: row.stateReason,
		createdAt: timestampFromMs(row.createdAtMs),
		etag: etagOf(row),
		...(row.deleteAtMs === null ? {} : { deleteAt: timestampFromMs(row.deleteAtMs) }),
	});
}
