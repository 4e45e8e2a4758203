import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Binding, BindingSchema } from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { BindingRow } from '../../store/port/access.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import { etagOf } from '../iam/etag.ts';

export function bindingName({ scope, id }: Pick<BindingRow, 'scope' | 'id'>): string {
	return `${scope}/bindings/${id}`;
}

export function bindingMessage(row: BindingRow, principal: PrincipalRow | undefined): Binding {
	return create(BindingSchema, {
		name: bindingName(row),
		principalId: row.principalId,
		principalKind: principal?.kind ?? '',
		displayName: principal?.displayName ?? '',
		role: row.role,
		scope: row.scope,
		permissions: [...row.permissions],
		reason: row.reason,
		createdAt: timestampFromMs(row.createdAtMs),
		etag: etagOf(row),
		...(row.expiresAtMs === null ? {} : { expiresAt: timestampFromMs(row.expiresAtMs) }),
	});
}
