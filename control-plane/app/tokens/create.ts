import { create } from '@bufbuild/protobuf';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	encodeJoinToken,
	JOIN_SECRET_BYTES,
	JOIN_TOKEN_PINS_MAX,
	joinTokenPublicKey,
} from '../../../pki/keys/join-token.ts';
import { CreateTokenResponseSchema, TokenService } from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import type { JoinTokenRow } from '../../store/port/join-tokens.ts';
import { endWithin } from '../break-glass/lasting.ts';
import { mutation } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { tokenMessage } from './view.ts';

const TTL_DEFAULT_MS = 600_000;

/** Makes a one-time join token. Its text leaves in this answer and is kept nowhere; the row has its public key. */
export const createToken = mutation('platform', TokenService.method.createToken, {
	prepare({ deps, ctx, request, nowMs }) {
		const { authority, rng } = deps;
		const id = uuidv7(nowMs, rng);
		const secret = rng.bytes(JOIN_SECRET_BYTES);
		// The text carries whole seconds, and both sides must read the same end.
		const wantedMs = nowMs + (msFromDuration(request.ttl) ?? TTL_DEFAULT_MS);
		const expiresAtMs = Math.floor(endWithin(ctx.actor, wantedMs) / 1000) * 1000;
		const caPins = authority.pins().slice(0, JOIN_TOKEN_PINS_MAX);
		const text = encodeJoinToken({ id, secret, caPins, trustDomain: authority.trustDomain, expiresAtMs });
		return { id, expiresAtMs, publicKey: joinTokenPublicKey(secret), text };
	},
	*apply(tx, { ctx, request, nowMs }, _target, { id, expiresAtMs, publicKey, text }) {
		const row: JoinTokenRow = {
			id,
			state: 'unused',
			publicKey,
			nodeName: request.nodeName,
			labels: { ...request.labels },
			expectedSerial: request.expectedSerial,
			createdAtMs: nowMs,
			expiresAtMs,
			createdBy: ctx.actor.id,
			nodeId: null,
			usedBySpkiSha256: null,
		};
		yield* tx.joinTokens.insert(row);
		return {
			response: create(CreateTokenResponseSchema, { token: tokenMessage(row, nowMs), joinToken: text }),
			audit: {
				action: 'tokens.create',
				target: `tokens/${id}`,
				result: 'ok',
				reason: '',
				detail: { node_name: row.nodeName, expires_at_ms: expiresAtMs, bound_to_machine: row.expectedSerial !== '' },
			},
		};
	},
});
