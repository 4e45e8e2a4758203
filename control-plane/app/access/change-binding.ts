import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import {
	AccessService,
	DeleteBindingResponseSchema,
	UpdateBindingResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { BindingRow } from '../../store/port/access.ts';
import type { Tx } from '../../store/port/store.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import { assertMayLast, breakGlassEndMs } from '../break-glass/lasting.ts';
import { BREAK_GLASS_PRINCIPAL_ID, BREAK_GLASS_ROLE } from '../break-glass/rules.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { assertHoldsBindings, granterOf } from '../iam/grants.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import { assertOwnerLeft, guardedRole } from '../iam/owners.ts';
import { holds, permissionBit } from '../iam/permissions.ts';
import type { TargetOf } from '../iam/target.ts';
import { mutation } from '../use-case.ts';
import { bindingMessage, bindingName } from './binding-view.ts';
import { expiryOf } from './expiry.ts';
import { supportPerson } from './support-consent.ts';

/** Throws BREAK_GLASS_FORBIDDEN, GRANT_EXCEEDS_OWN. */
const HOLDS_AS_MUCH: Gate<'scope'> = {
	gate: 'grant',
	*check(tx, { target, policy, granter }) {
		yield* assertHoldsBindings(tx, yield* granter(tx), [yield* bindingAt(tx, policy, target)]);
		return 'they hold all that the binding gives';
	},
};

/** A new end. To lengthen one is to give it again, so it takes the same as giving it. */
export const updateBinding = mutation('scope', AccessService.method.updateBinding, {
	prepare: () => undefined,
	gates: [HOLDS_AS_MUCH],
	*apply(tx, call, target) {
		const { request, nowMs, policy } = call;
		const granter = yield* granterOf(tx, call);
		const binding = yield* bindingAt(tx, policy, target);
		assertEtag(request.etag, binding, 'binding');
		const expiresAtMs = expiryOf(request.expiresAt, nowMs);
		if (isLonger(expiresAtMs, binding.expiresAtMs, breakGlassEndMs(granter.actor)))
			assertMayLast(granter.actor, 'the longer binding');
		yield* asPlatform(supportPerson(tx, { ...binding, scope: target.scope, expiresAtMs, nowMs }));
		if (expiresAtMs !== null) yield* assertOwnerStays(tx, target.scope, binding);
		const patch = { expiresAtMs, reason: request.reason };
		const row = present(yield* tx.access.updateBinding(binding.id, patch, binding.version), 'the row is locked');
		const principal = yield* tx.identities.getPrincipal(row.principalId);
		const response = create(UpdateBindingResponseSchema, { binding: bindingMessage(row, principal) });
		return changed(response, 'bindings.update', bindingName(row), target.scope.organization);
	},
});

/** Throws BREAK_GLASS_FORBIDDEN, LAST_OWNER. */
const OWNER_STAYS: Gate<'scope'> = {
	gate: 'owner',
	*check(tx, { target, policy }) {
		const binding = yield* bindingAt(tx, policy, target);
		yield* assertOwnerStays(tx, target.scope, binding);
		return 'it is not of the last owner';
	},
};

export const deleteBinding = mutation('scope', AccessService.method.deleteBinding, {
	prepare: () => undefined,
	gates: [OWNER_STAYS],
	*apply(tx, call, target) {
		const { request, policy } = call;
		const { actor } = yield* granterOf(tx, call);
		const binding = yield* bindingAt(tx, policy, target);
		assertEtag(request.etag, binding, 'binding');
		yield* tx.access.deleteBinding(binding.id, binding.version);
		if (binding.principalId === actor.id) {
			// As it would be then: in this unit the binding is gone already.
			const after = (yield* granterOf(tx, call)).actor.access;
			const bit = permissionBit('bindings.delete');
			const stays =
				holds(after.platform, bit) ||
				target.place.ancestors.some((path) => holds(after.at.get(path) ?? new Uint32Array(0), bit));
			if (!stays) throw lockedOut();
		}
		const response = create(DeleteBindingResponseSchema);
		const detail = { principal: binding.principalId, role: binding.role };
		return changed(response, 'bindings.delete', bindingName(binding), target.scope.organization, detail);
	},
});

/** Under break-glass: past the end that it has, and past the hour. */
function isLonger(wantedMs: number | null, nowMs: number | null, hourMs: number | undefined): boolean {
	if (hourMs === undefined || nowMs === null) return false;
	return wantedMs === null || (wantedMs > nowMs && wantedMs > hourMs);
}

function* bindingAt(tx: Tx, policy: CheckedPolicy, { scope, collection, id }: TargetOf['scope']): Plan<BindingRow> {
	const row = collection === 'bindings' ? yield* tx.access.getBinding(id) : undefined;
	if (row === undefined || row.scope !== scope.name) throw notFound(policy);
	if (row.principalId === BREAK_GLASS_PRINCIPAL_ID && row.role === BREAK_GLASS_ROLE) throw keptForBreakGlass();
	return row;
}

function* assertOwnerStays(tx: Tx, scope: TargetOf['scope']['scope'], binding: BindingRow): Plan<void> {
	if (guardedRole(scope.kind) === binding.role) yield* assertOwnerLeft(tx, scope, { bindings: [binding.id] });
}

function keptForBreakGlass(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'BREAK_GLASS_FORBIDDEN',
		message:
			'this is what break-glass acts by, and nothing was changed; it counts only while break-glass is open. To close the way, remove its keys: gpuaas break-glass remove',
	});
}

function lockedOut(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SELF_LOCKOUT',
		message:
			'you would take away the role that lets you change roles here, and nothing was changed; ask somebody else to do it',
	});
}
