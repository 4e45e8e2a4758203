import { create } from '@bufbuild/protobuf';
import {
	ListGroupMembersRequestSchema,
	ListGroupMembersResponseSchema,
	ListGroupsRequestSchema,
	ListGroupsResponseSchema,
	ListMembersRequestSchema,
	ListMembersResponseSchema,
	ListServiceAccountsRequestSchema,
	ListServiceAccountsResponseSchema,
	ListUsersRequestSchema,
	ListUsersResponseSchema,
	PrincipalService,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { assertHome, namedPrincipal } from './named.ts';
import { principalMessage } from './view.ts';

/** Lists of principals, by id: those that live at one scope, the members of an organization or group, all users. */
export const listGroups = query('scope', PrincipalService.method.listGroups, {
	*read(tx, call, target) {
		const page = pageOf(call, ListGroupsRequestSchema);
		const home = assertHome(call.policy, target).name;
		return { rows: yield* tx.identities.listPrincipals({ ...page, kind: 'group', home }), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListGroupsResponseSchema, {
			principals: rows.map((row) => principalMessage(row)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

export const listServiceAccounts = query('scope', PrincipalService.method.listServiceAccounts, {
	*read(tx, call, target) {
		const page = pageOf(call, ListServiceAccountsRequestSchema);
		const home = assertHome(call.policy, target).name;
		return { rows: yield* tx.identities.listPrincipals({ ...page, kind: 'service_account', home }), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListServiceAccountsResponseSchema, {
			principals: rows.map((row) => principalMessage(row)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

export const listUsers = query('platform', PrincipalService.method.listUsers, {
	*read(tx, call) {
		const page = pageOf(call, ListUsersRequestSchema);
		return { rows: yield* tx.identities.listPrincipals({ ...page, kind: 'user', home: null }), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListUsersResponseSchema, {
			principals: rows.map((row) => principalMessage(row)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

export const listMembers = query('scope', PrincipalService.method.listMembers, {
	*read(tx, call, target) {
		const page = pageOf(call, ListMembersRequestSchema);
		const { organization } = assertHome(call.policy, target);
		const members = yield* tx.identities.listMembers({ ...page, organization });
		const people = yield* byId(tx, members);
		return { members: members.map((member) => ({ ...member, person: people.get(member.principalId) })), page };
	},
	answer: (_call, { members, page }) =>
		create(ListMembersResponseSchema, {
			principals: members.flatMap(({ person, joinedAtMs }) =>
				person === undefined ? [] : [principalMessage(person, joinedAtMs)],
			),
			nextPageToken: nextPageToken(page, members.at(-1)?.principalId, members.length),
		}),
});

export const listGroupMembers = query('scope', PrincipalService.method.listGroupMembers, {
	*read(tx, call, target) {
		const page = pageOf(call, ListGroupMembersRequestSchema);
		const group = yield* namedPrincipal(tx, call.policy, target, 'group');
		const members = yield* tx.identities.listGroupMembers({ ...page, groupId: group.id });
		const people = yield* byId(tx, members);
		return { members: members.map((member) => ({ ...member, person: people.get(member.principalId) })), page };
	},
	answer: (_call, { members, page }) =>
		create(ListGroupMembersResponseSchema, {
			principals: members.flatMap(({ person, addedAtMs }) =>
				person === undefined ? [] : [principalMessage(person, addedAtMs)],
			),
			nextPageToken: nextPageToken(page, members.at(-1)?.principalId, members.length),
		}),
});

function* byId(tx: Tx, rows: readonly { readonly principalId: string }[]): Plan<ReadonlyMap<string, PrincipalRow>> {
	const found = yield* tx.identities.getPrincipals(rows.map(({ principalId }) => principalId));
	return new Map(found.map((row) => [row.id, row]));
}
