import { create } from '@bufbuild/protobuf';
import { PrincipalService, RemoveMemberResponseSchema } from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { notFound } from '../iam/not-found.ts';
import { assertOwnerLeft } from '../iam/owners.ts';
import { mutation } from '../use-case.ts';

/** Throws LAST_OWNER. */
const OWNER_STAYS: Gate<'scope'> = {
	gate: 'owner',
	*check(tx, { target: { scope, collection, id }, policy }) {
		if (collection !== 'members' || scope.kind !== 'organization') throw notFound(policy);
		if ((yield* tx.identities.getMember(scope.organization, id)) === undefined) throw notFound(policy);
		yield* assertOwnerLeft(tx, scope, { principalId: id });
		return 'they are not the last owner';
	},
};

/** Takes a person out of an organization, with everything that they hold in it and whom they invited and who hasn't come. */
export const removeMember = mutation('scope', PrincipalService.method.removeMember, {
	prepare: () => undefined,
	gates: [OWNER_STAYS],
	*apply(tx, { nowMs }, { scope, id }) {
		const bindings = yield* tx.access.deleteBindingsIn(scope.organization, id);
		yield* tx.identities.deleteGroupMembersIn(scope.organization, id);
		yield* tx.identities.deleteMember(scope.organization, id);
		const invitations = yield* tx.invitations.revokeAllBy(id, scope.organization, nowMs);
		const removed = `${scope.name}/members/${id}`;
		const detail = { bindings, invitations };
		return changed(create(RemoveMemberResponseSchema), 'members.remove', removed, scope.organization, detail);
	},
});
