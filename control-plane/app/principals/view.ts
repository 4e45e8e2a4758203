import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	type Invitation,
	InvitationSchema,
	type Principal,
	PrincipalSchema,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { PrincipalKind, PrincipalRow } from '../../store/port/identities.ts';
import type { InvitationRow } from '../../store/port/invitations.ts';
import { etagOf } from '../iam/etag.ts';

const COLLECTION: Readonly<Partial<Record<PrincipalKind, string>>> = {
	group: 'groups',
	service_account: 'serviceAccounts',
};

/** `organizations/acme/groups/ml`; empty for people, who stand nowhere. */
export function principalName({ kind, home, name }: PrincipalRow): string {
	const collection = COLLECTION[kind];
	return collection === undefined || home === null ? '' : `${home}/${collection}/${name}`;
}

export function principalMessage(row: PrincipalRow, joinedAtMs?: number): Principal {
	return create(PrincipalSchema, {
		id: row.id,
		kind: row.kind,
		displayName: row.displayName,
		email: row.email,
		name: principalName(row),
		suspended: row.disabledAtMs !== null,
		suspendedReason: row.disabledReason,
		createdAt: timestampFromMs(row.createdAtMs),
		etag: etagOf(row),
		...(joinedAtMs === undefined ? {} : { joinedAt: timestampFromMs(joinedAtMs) }),
	});
}

export function invitationState(row: InvitationRow, nowMs: number): 'open' | 'accepted' | 'revoked' | 'expired' {
	if (row.acceptedAtMs !== null) return 'accepted';
	if (row.revokedAtMs !== null) return 'revoked';
	return row.expiresAtMs <= nowMs ? 'expired' : 'open';
}

export function invitationMessage(row: InvitationRow, nowMs: number): Invitation {
	return create(InvitationSchema, {
		name: `${row.scope}/invitations/${row.id}`,
		email: row.email,
		role: row.role,
		scope: row.scope,
		state: invitationState(row, nowMs),
		createdAt: timestampFromMs(row.createdAtMs),
		expiresAt: timestampFromMs(row.expiresAtMs),
	});
}
