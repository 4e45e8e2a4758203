import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import {
	AddGroupMemberResponseSchema,
	PrincipalService,
	RemoveGroupMemberResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { assertMayLast } from '../break-glass/lasting.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertHoldsBindings } from '../iam/grants.ts';
import { mutation } from '../use-case.ts';
import { assertBelongs } from './belongs.ts';
import { namedPrincipal } from './named.ts';
import { principalName } from './view.ts';

/** Groups are flat, and one principal's access is compiled from all of its groups. */
const MEMBERS_MAX = 5000;

/** Throws GRANT_EXCEEDS_OWN. */
const HOLDS_AS_MUCH: Gate<'scope'> = {
	gate: 'grant',
	*check(tx, { target, policy, granter }) {
		const group = yield* namedPrincipal(tx, policy, target, 'group');
		yield* assertHoldsBindings(tx, yield* granter(tx), yield* tx.access.listBindings([group.id]));
		return 'they hold all that the group gives';
	},
};

/** Joining somebody to a group gives them its roles: so it takes whoever holds all of them. */
export const addGroupMember = mutation('scope', PrincipalService.method.addGroupMember, {
	gates: [HOLDS_AS_MUCH],
	prepare: ({ ctx }) => assertMayLast(ctx.actor, 'a membership'),
	*apply(tx, call, target) {
		const { request, policy, nowMs, ctx } = call;
		const group = yield* namedPrincipal(tx, policy, target, 'group');
		const member = yield* assertBelongs(tx, request.principalId, target.scope);
		if (member.kind === 'group') throw flat();
		const members = yield* tx.identities.listGroupMembers({ groupId: group.id, afterId: '', limit: MEMBERS_MAX });
		if (members.length >= MEMBERS_MAX) throw full();
		if (!members.some(({ principalId }) => principalId === member.id)) {
			const row = { groupId: group.id, principalId: member.id, addedAtMs: nowMs, addedBy: ctx.actor.id };
			yield* tx.identities.insertGroupMember(row);
		}
		const response = create(AddGroupMemberResponseSchema);
		return changed(response, 'groups.add_member', principalName(group), group.organization ?? '', {
			member: member.id,
		});
	},
});

export const removeGroupMember = mutation('scope', PrincipalService.method.removeGroupMember, {
	prepare: () => undefined,
	*apply(tx, { request, policy }, target) {
		const group = yield* namedPrincipal(tx, policy, target, 'group');
		const removed = yield* tx.identities.deleteGroupMember(group.id, request.principalId);
		const detail = { member: request.principalId, removed };
		const response = create(RemoveGroupMemberResponseSchema);
		return changed(response, 'groups.remove_member', principalName(group), group.organization ?? '', detail);
	},
});

function flat(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'PRINCIPAL_NOT_FOUND',
		message: 'groups hold people and service accounts, not other groups; add its members instead',
	});
}

function full(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_BINDINGS',
		message: `a group has at most ${MEMBERS_MAX} members; make a second one`,
	});
}
