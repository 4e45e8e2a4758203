import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { ResumeScopeResponseSchema, ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { refusal } from '../iam/target.ts';
import { mutation } from '../use-case.ts';
import { assertScopeItself } from './scope-itself.ts';
import { wrongState } from './suspend.ts';
import { scopeMessage } from './view.ts';

const RESUMABLE: ReadonlySet<string> = new Set(['suspended', 'locked', 'deleting']);

/** Throws PERMISSION_DENIED. */
const MAY_RESUME: Gate<'scope'> = {
	gate: 'plane',
	check(_tx, { target, policy }) {
		const { kind, state } = assertScopeItself(policy, target);
		// A deletion that was taken back would undo a lock: so of organizations that, too, is the platform's.
		const isPlatforms = state === 'locked' || (kind === 'organization' && state === 'deleting');
		if (isPlatforms && target.plane !== 'platform') throw refusal('PERMISSION_DENIED', policy);
		return `by a role of the ${target.plane}`;
	},
};

/** Throws SCOPE_STATE_INVALID. */
const STOPPED: Gate<'scope'> = {
	gate: 'state',
	check(_tx, { target: { scope } }) {
		if (!RESUMABLE.has(scope.state)) throw wrongState(scope.state);
		return `the scope is ${scope.state}`;
	},
};

/** Ends a suspension, or a deletion within its grace period. */
export const resumeScope = mutation('scope', ScopeService.method.resumeScope, {
	prepare: () => undefined,
	gates: [MAY_RESUME, STOPPED],
	*apply(tx, { request, policy }, target) {
		const scope = assertScopeItself(policy, target);
		assertEtag(request.etag, scope, 'scope');
		const patch = { state: 'active', stateReason: '', deleteAtMs: null } as const;
		const row = present(yield* tx.scopes.update(scope.name, patch, scope.version), 'the row is locked');
		const response = create(ResumeScopeResponseSchema, { scope: scopeMessage(row) });
		return changed(response, 'scopes.resume', row.name, row.organization, { was: scope.state });
	},
});
