import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { RevokeTokenResponseSchema, TokenService } from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { mutation } from '../use-case.ts';
import { tokenMessage } from './view.ts';

/** An unused token enrolls nobody any more; one that was used, burned or revoked stays as it is. */
export const revokeToken = mutation('platform', TokenService.method.revokeToken, {
	prepare: () => undefined,
	*apply(tx, { request, nowMs }) {
		const row = yield* tx.joinTokens.get(request.tokenId);
		if (row === undefined) throw notFound();
		const changed = row.state === 'unused' ? yield* tx.joinTokens.update(row.id, { state: 'revoked' }, 'unused') : row;
		const now = changed ?? row;
		return {
			response: create(RevokeTokenResponseSchema, { token: tokenMessage(now, nowMs) }),
			audit: {
				action: 'tokens.revoke',
				target: `tokens/${row.id}`,
				result: 'ok',
				reason: '',
				detail: { was: row.state, state: now.state },
			},
		};
	},
});

function notFound(): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'NOT_FOUND',
		message: 'there is no such join token; list tokens to see their ids',
	});
}
