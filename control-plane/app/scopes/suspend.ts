import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { ScopeService, SuspendScopeResponseSchema } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { refusal } from '../iam/target.ts';
import { mutation } from '../use-case.ts';
import { assertScopeItself } from './scope-itself.ts';
import { scopeMessage } from './view.ts';

/** Throws PERMISSION_DENIED. */
const MAY_SUSPEND: Gate<'scope'> = {
	gate: 'plane',
	check(_tx, { target, policy }) {
		const { kind } = assertScopeItself(policy, target);
		if (kind === 'organization' && target.plane !== 'platform') throw refusal('PERMISSION_DENIED', policy);
		return `by a role of the ${target.plane}`;
	},
};

/** Throws SCOPE_STATE_INVALID. */
const ACTIVE: Gate<'scope'> = {
	gate: 'state',
	check(_tx, { target: { scope } }) {
		if (scope.kind === 'platform' || scope.state !== 'active') throw wrongState(scope.state);
		return 'the scope is active';
	},
};

/** Stops changes below. What the platform suspends, only the platform resumes; an organization is always its matter. */
export const suspendScope = mutation('scope', ScopeService.method.suspendScope, {
	prepare: () => undefined,
	gates: [MAY_SUSPEND, ACTIVE],
	*apply(tx, { request, policy }, target) {
		const scope = assertScopeItself(policy, target);
		assertEtag(request.etag, scope, 'scope');
		const state = target.plane === 'platform' ? ('locked' as const) : ('suspended' as const);
		const patch = { state, stateReason: request.reason };
		const row = present(yield* tx.scopes.update(scope.name, patch, scope.version), 'the row is locked');
		const response = create(SuspendScopeResponseSchema, { scope: scopeMessage(row) });
		return changed(response, 'scopes.suspend', row.name, row.organization);
	},
});

export function wrongState(state: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_STATE_INVALID',
		message: `the scope is ${state}, and that can't be done to it then; nothing was changed`,
	});
}
