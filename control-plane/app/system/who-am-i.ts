import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { SystemService, WhoAmIResponseSchema } from '../../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { query } from '../use-case.ts';

export const whoAmI = query('self', SystemService.method.whoAmI, {
	*read() {},
	answer({ ctx: { actor } }) {
		const expiresAtMs = actor.credentialExpiresAtMs;
		return create(WhoAmIResponseSchema, {
			principalId: actor.id,
			displayName: actor.displayName,
			kind: actor.kind,
			bindings: actor.bindings.map(({ role, scope }) => ({ role, scope })),
			credentialId: actor.credentialId,
			...(expiresAtMs === null ? {} : { credentialExpiresAt: timestampFromMs(expiresAtMs) }),
		});
	},
});
