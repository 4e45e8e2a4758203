import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { MoveScopeResponseSchema, ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { granterOf, mayAt } from '../iam/grants.ts';
import { refusal } from '../iam/target.ts';
import { moveQuotas } from '../quotas/move.ts';
import { mutation } from '../use-case.ts';
import { assertMayLeave } from './may-leave.ts';
import { assertDepth, assertSkeletonFree } from './place-checks.ts';
import { assertScopeItself } from './scope-itself.ts';
import { scopeMessage } from './view.ts';

/**
 * Moves a department or project, with everything below, within its organization. Names stay; who inherits changes: so it
 * takes moving it at the parent that loses it, creating at the one that gets it, and may lift no guardrail by the way. One
 * tree is moved at a time, for the policy is locked: two at once could make a circle that neither of them sees.
 */
export const moveScope = mutation('scope', ScopeService.method.moveScope, {
	prepare: () => undefined,
	*apply(tx, call, target) {
		const { request, nowMs, policy } = call;
		const scope = assertScopeItself(policy, target);
		const granter = yield* granterOf(tx, call);
		const parent = yield* tx.scopes.get(request.newParent);
		const place = yield* granter.view.place(tx, request.newParent);
		if (parent === undefined || place === undefined || !mayAt(granter, 'scopes.create', place, nowMs))
			throw refusal('NOT_FOUND', policy);
		assertEtag(request.etag, scope, 'scope');
		assertCanStand(scope, parent);
		yield* assertMayLeave(tx, granter, scope, parent, nowMs);
		const path = yield* assertFits(tx, scope, parent);
		yield* moveQuotas(tx, scope, parent);
		yield* tx.scopes.movePaths(scope.path, path);
		const patch = { parent: parent.name, path };
		const row = present(yield* tx.scopes.update(scope.name, patch, scope.version), 'the row is locked');
		const response = create(MoveScopeResponseSchema, { scope: scopeMessage(row) });
		return changed(response, 'scopes.move', row.name, row.organization, { from: scope.parent ?? '', to: parent.name });
	},
});

/** What one unit moves; more would hold the writer for too long. */
const BELOW_MAX = 20_000;

/** Whether what would stand there has room there by name, depth and number; its path then. Also for Explain. */
export function* assertFits(tx: Tx, scope: ScopeRow, parent: ScopeRow): Plan<string> {
	const path = `${parent.path}${scope.kind === 'project' ? 'p' : 'd'}.${scope.id}/`;
	yield* assertSkeletonFree(tx, { ...scope, parent: parent.name });
	const below = yield* tx.scopes.listBelow(scope.path, BELOW_MAX + 1);
	if (below.length > BELOW_MAX) throw tooLarge();
	for (const moved of [path, ...below.map((row) => path + row.path.slice(scope.path.length))]) assertDepth(moved);
	return path;
}

/** Throws SCOPE_KIND_INVALID, SCOPE_CYCLE. Also for Explain. */
export function assertCanStand(scope: ScopeRow, parent: ScopeRow): void {
	const isMovable = scope.kind === 'department' || scope.kind === 'project';
	const isParent = parent.kind === 'organization' || parent.kind === 'department';
	if (!isMovable || !isParent || scope.organization !== parent.organization) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'SCOPE_KIND_INVALID',
			message: 'only departments and projects move, and only within their organization; nothing was moved',
		});
	}
	if (!parent.path.startsWith(scope.path)) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_CYCLE',
		message: 'a department can’t stand in itself or below itself; nothing was moved. Choose a parent outside of it',
	});
}

function tooLarge(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_SCOPES',
		message: `more than ${BELOW_MAX} scopes would move at once; move their departments one by one`,
	});
}
