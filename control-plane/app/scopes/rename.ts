import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { RenameScopeResponseSchema, ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { changed } from '../iam/change.ts';
import { checkedDisplayName } from '../iam/display-name.ts';
import { assertEtag } from '../iam/etag.ts';
import { mutation } from '../use-case.ts';
import { assertSkeletonFree } from './place-checks.ts';
import { assertScopeItself } from './scope-itself.ts';
import { scopeMessage } from './view.ts';

export const renameScope = mutation('scope', ScopeService.method.renameScope, {
	prepare: ({ request }) => checkedDisplayName(request.displayName),
	*apply(tx, { request, policy }, target, name) {
		const scope = assertScopeItself(policy, target);
		assertEtag(request.etag, scope, 'scope');
		yield* assertSkeletonFree(tx, { ...scope, ...name });
		const row = present(yield* tx.scopes.update(scope.name, name, scope.version), 'the row is locked');
		const response = create(RenameScopeResponseSchema, { scope: scopeMessage(row) });
		return changed(response, 'scopes.update', row.name, row.organization);
	},
});
