import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	BeginBreakGlassResponseSchema,
	BreakGlassService,
} from '../../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import { mutation } from '../use-case.ts';
import { breakGlassInvalid, CHALLENGE_TTL_MS, KEYS_MAX, QUORUM } from './rules.ts';

/** Unanswered at once, of one address: more is somebody who plays with the handle. */
const CHALLENGES_OF_PEER_MAX = 8;
/** Unanswered at once, of all; past it the oldest goes, so that nobody can keep the way shut for others. */
export const CHALLENGES_OPEN_MAX = 4096;

export const beginBreakGlass = mutation('platform', BreakGlassService.method.beginBreakGlass, {
	*apply(tx, { deps, ctx, request, nowMs }) {
		const keys = yield* tx.breakGlass.listKeys({ afterId: '', limit: KEYS_MAX });
		if (keys.length < QUORUM) throw breakGlassInvalid(`fewer than ${QUORUM} keys were registered before`);
		if ((yield* tx.breakGlass.countOpenChallenges(ctx.peer, nowMs)) >= CHALLENGES_OF_PEER_MAX) throw tooMany();
		yield* tx.breakGlass.forgetChallenges(CHALLENGES_OPEN_MAX - 1, nowMs);
		const id = uuidv7(nowMs, deps.rng);
		// Readable, so that whoever signs sees what for; bound to this installation.
		const text = `gpuaas break-glass v1 ${deps.authority.trustDomain} ${id} ${Buffer.from(deps.rng.bytes(32)).toString('hex')}`;
		const challenge = Buffer.from(text);
		const challengeExpiresAtMs = nowMs + CHALLENGE_TTL_MS;
		yield* tx.breakGlass.insertGrant({
			id,
			challenge,
			reason: request.reason,
			peer: ctx.peer,
			requestedAtMs: nowMs,
			challengeExpiresAtMs,
			signers: [],
			secretSha256: null,
			activatedAtMs: null,
			expiresAtMs: null,
			endedAtMs: null,
			version: 1,
		});
		deps.log.warn('break-glass was asked for', { grant: id, peer: ctx.peer });
		const expiresAt = timestampFromMs(challengeExpiresAtMs);
		return {
			response: create(BeginBreakGlassResponseSchema, { grantId: id, challenge, expiresAt, quorum: QUORUM }),
			audit: { action: 'breakglass.begin', target: `break-glass/${id}`, result: 'ok', reason: '' },
		};
	},
});

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `${CHALLENGES_OF_PEER_MAX} challenges of your address wait for an answer already; sign one of those, or wait ten minutes`,
		metadata: { 'retry-after': '600' },
	});
}
