import { create } from '@bufbuild/protobuf';
import {
	GetGroupResponseSchema,
	GetServiceAccountResponseSchema,
	PrincipalService,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { query } from '../use-case.ts';
import { namedPrincipal } from './named.ts';
import { principalMessage } from './view.ts';

export const getGroup = query('scope', PrincipalService.method.getGroup, {
	*read(tx, { policy }, target) {
		return yield* namedPrincipal(tx, policy, target, 'group');
	},
	answer: (_call, row) => create(GetGroupResponseSchema, { principal: principalMessage(row) }),
});

export const getServiceAccount = query('scope', PrincipalService.method.getServiceAccount, {
	*read(tx, { policy }, target) {
		return yield* namedPrincipal(tx, policy, target, 'service_account');
	},
	answer: (_call, row) => create(GetServiceAccountResponseSchema, { principal: principalMessage(row) }),
});
