import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { DeleteScopeResponseSchema, ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { mutation } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { deletionPlan } from './deletion-plan.ts';
import { assertScopeItself } from './scope-itself.ts';
import { wrongState } from './suspend.ts';
import { scopeMessage } from './view.ts';

const DELETABLE: ReadonlySet<string> = new Set(['active', 'suspended', 'locked']);
const GRACE_DEFAULT_MS = 7 * 24 * 3_600_000;

/** Throws SCOPE_STATE_INVALID. */
const CAN_END: Gate<'scope'> = {
	gate: 'state',
	check(_tx, { target, policy }) {
		const { kind, state } = assertScopeItself(policy, target);
		// Below an organization a lock ends first: whoever takes a deletion back would else end it.
		const isLocked = state === 'locked' && kind !== 'organization';
		if (kind === 'platform' || isLocked || !DELETABLE.has(state)) throw wrongState(state);
		return `the scope is ${state}`;
	},
};

/** Throws SCOPE_IN_USE. */
const UNUSED: Gate<'scope'> = {
	gate: 'use',
	*check(tx, { target: { scope } }) {
		const { openAssignments } = yield* tx.scopes.countIn(scope.path);
		if (openAssignments > 0) throw inUse(openAssignments);
		return 'no node is assigned to a project in it';
	},
};

/** Stops everything below at once, and lets reconcilers/iam-upkeep delete it after the grace period. */
export const deleteScope = mutation('scope', ScopeService.method.deleteScope, {
	prepare: () => undefined,
	gates: [CAN_END, UNUSED],
	*apply(tx, { request, nowMs, policy }, target) {
		const scope = assertScopeItself(policy, target);
		const plan = yield* deletionPlan(tx, scope);
		if (plan.planDigest !== request.planDigest) throw planChanged();
		const deleteAtMs = nowMs + (msFromDuration(request.grace) ?? GRACE_DEFAULT_MS);
		const patch = { state: 'deleting', stateReason: request.reason, deleteAtMs } as const;
		const row = present(yield* tx.scopes.update(scope.name, patch, scope.version), 'the row is locked');
		const response = create(DeleteScopeResponseSchema, { scope: scopeMessage(row) });
		const counts = {
			scopes: Number(plan.scopes),
			principals: Number(plan.principals),
			bindings: Number(plan.bindings),
		};
		return changed(response, 'scopes.delete', row.name, row.organization, { ...counts, delete_at_ms: deleteAtMs });
	},
});

function planChanged(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'DELETION_PLAN_CHANGED',
		message:
			'what would be deleted is not what the plan showed; nothing was done. Look at the new plan and send its digest',
	});
}

function inUse(assignments: number): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_IN_USE',
		message: `${assignments} nodes are still assigned to projects in it; unassign them first, nothing was done`,
		metadata: { open_assignments: String(assignments) },
	});
}
