import { expect, test } from 'vitest';
import { AccessService } from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { NodeService } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { checkedPolicy } from './method-policy.ts';
import { refusal } from './target.ts';

test.each([
	[NodeService.method.getNode, 'NODE_NOT_FOUND', 'there is no such node, or you may not see it; list the nodes'],
	[ScopeService.method.getScope, 'SCOPE_NOT_FOUND', 'there is no such scope, or you may not see it; list the scopes'],
	// Of a list the scope is missing, of what stands at it the thing itself.
	[AccessService.method.listRoles, 'SCOPE_NOT_FOUND', 'there is no such scope,'],
	[AccessService.method.getRole, 'SCOPE_NOT_FOUND', 'there is no such role, or you may not see it; list the roles'],
	[AccessService.method.deleteBinding, 'SCOPE_NOT_FOUND', 'there is no such binding,'],
	// Checked against whatever it is asked about.
	[AccessService.method.whoCan, 'NOT_FOUND', 'there is no such resource, or you may not see it; list the resources'],
])('$name calls what is not there by a name that people know', (method, reason, said) => {
	const error = refusal('NOT_FOUND', checkedPolicy(method));
	expect(error.reason).toBe(reason);
	expect(error.message).toContain(said);
});

test('who lacks a permission is told which, and whom to ask', () => {
	const { message } = refusal('PERMISSION_DENIED', checkedPolicy(NodeService.method.getNode));
	expect(message).toBe('you lack the permission nodes.get here; ask whoever gives roles here for one that holds it');
});
