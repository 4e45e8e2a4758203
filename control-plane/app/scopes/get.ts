import { create } from '@bufbuild/protobuf';
import { GetScopeResponseSchema, ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { query } from '../use-case.ts';
import { assertScopeItself } from './scope-itself.ts';
import { scopeMessage } from './view.ts';

export const getScope = query('scope', ScopeService.method.getScope, {
	*read(_tx, { policy }, target) {
		return assertScopeItself(policy, target);
	},
	answer: (_call, scope) => create(GetScopeResponseSchema, { scope: scopeMessage(scope) }),
});
