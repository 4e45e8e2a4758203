import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import {
	PrincipalService,
	ResumeServiceAccountResponseSchema,
	ResumeUserResponseSchema,
	SuspendServiceAccountResponseSchema,
	SuspendUserResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { assertOwnerLeft, guardedRole } from '../iam/owners.ts';
import { lockPolicy, mutation } from '../use-case.ts';
import { namedPrincipal } from './named.ts';
import { principalMessage, principalName } from './view.ts';

/** Suspending stops every credential of a principal with the next decision; what it holds stays for when it is resumed. */
export const suspendServiceAccount = mutation('scope', PrincipalService.method.suspendServiceAccount, {
	prepare: () => undefined,
	*apply(tx, { request, policy, nowMs }, target) {
		const account = yield* namedPrincipal(tx, policy, target, 'service_account');
		assertEtag(request.etag, account, 'service account');
		const row = yield* set(tx, account, nowMs, request.reason);
		const response = create(SuspendServiceAccountResponseSchema, { principal: principalMessage(row) });
		return changed(response, 'serviceaccounts.suspend', principalName(row), row.organization ?? '');
	},
});

export const resumeServiceAccount = mutation('scope', PrincipalService.method.resumeServiceAccount, {
	prepare: () => undefined,
	*apply(tx, { request, policy }, target) {
		const account = yield* namedPrincipal(tx, policy, target, 'service_account');
		assertEtag(request.etag, account, 'service account');
		const row = yield* set(tx, account, null, '');
		const response = create(ResumeServiceAccountResponseSchema, { principal: principalMessage(row) });
		return changed(response, 'serviceaccounts.resume', principalName(row), row.organization ?? '');
	},
});

export const suspendUser = mutation('platform', PrincipalService.method.suspendUser, {
	prepare: () => undefined,
	lock: lockPolicy,
	*apply(tx, { request, nowMs, ctx }) {
		const person = yield* userOf(tx, request.userId);
		assertEtag(request.etag, person, 'user');
		if (person.id === ctx.actor.id) throw oneself();
		yield* assertLeavesOwners(tx, person.id);
		const row = yield* set(tx, person, nowMs, request.reason);
		const invitations = yield* tx.invitations.revokeAllBy(person.id, null, nowMs);
		const response = create(SuspendUserResponseSchema, { principal: principalMessage(row) });
		return changed(response, 'users.suspend', `users/${row.id}`, '', { invitations });
	},
});

export const resumeUser = mutation('platform', PrincipalService.method.resumeUser, {
	prepare: () => undefined,
	lock: lockPolicy,
	*apply(tx, { request }) {
		const person = yield* userOf(tx, request.userId);
		assertEtag(request.etag, person, 'user');
		const row = yield* set(tx, person, null, '');
		const response = create(ResumeUserResponseSchema, { principal: principalMessage(row) });
		return changed(response, 'users.resume', `users/${row.id}`, '');
	},
});

function* set(tx: Tx, row: PrincipalRow, disabledAtMs: number | null, disabledReason: string): Plan<PrincipalRow> {
	const patch = { disabledAtMs, disabledReason };
	return present(yield* tx.identities.updatePrincipal(row.id, patch, row.version), 'its etag was just compared');
}

function* userOf(tx: Tx, id: string): Plan<PrincipalRow> {
	const row = yield* tx.identities.getPrincipal(id);
	if (row?.kind === 'user' && row.deletedAtMs === null) return row;
	throw new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'PRINCIPAL_NOT_FOUND',
		message: 'there is no such user; list the users for their ids',
	});
}

/** In every organization, and on the platform, in which the person is an owner. */
function* assertLeavesOwners(tx: Tx, principalId: string): Plan<void> {
	for (const binding of yield* tx.access.listBindings([principalId])) {
		const [scope] = yield* tx.scopes.getMany([binding.scope]);
		if (scope === undefined || scope.state === 'deleted' || guardedRole(scope.kind) !== binding.role) continue;
		yield* assertOwnerLeft(tx, scope, { principalId });
	}
}

function oneself(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SELF_LOCKOUT',
		message: 'you would suspend yourself, and nothing was changed; ask another operator to do it',
	});
}
