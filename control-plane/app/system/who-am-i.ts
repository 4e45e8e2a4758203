import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { SystemService, WhoAmIResponseSchema } from '../../../proto/gen/gpuaas/system/v1/system_pb.ts';
import type { Assurance } from '../../context.ts';
import { heldBindings } from '../iam/held-bindings.ts';
import { query } from '../use-case.ts';

export const whoAmI = query('self', SystemService.method.whoAmI, {
	*read(tx, { ctx, nowMs }) {
		const bindings = yield* heldBindings(tx, ctx.actor.id);
		return bindings.filter(({ expiresAtMs }) => expiresAtMs === null || expiresAtMs > nowMs);
	},
	answer({ ctx: { actor }, nowMs }, bindings) {
		const expiresAtMs = actor.credentialExpiresAtMs;
		return create(WhoAmIResponseSchema, {
			principalId: actor.id,
			displayName: actor.displayName,
			kind: actor.kind,
			bindings: bindings.map(({ role, scope }) => ({ role, scope })),
			credentialId: actor.credentialId,
			...(actor.assurance === undefined ? {} : { login: assuranceMessage(actor.assurance, nowMs) }),
			...(expiresAtMs === null ? {} : { credentialExpiresAt: timestampFromMs(expiresAtMs) }),
		});
	},
});

function assuranceMessage({ issuer, acr, authTimeMs, strongUntilMs }: Assurance, nowMs: number) {
	return {
		issuer,
		acr,
		...(authTimeMs > 0 ? { authTime: timestampFromMs(authTimeMs) } : {}),
		...(strongUntilMs > nowMs ? { steppedUpUntil: timestampFromMs(strongUntilMs) } : {}),
	};
}
