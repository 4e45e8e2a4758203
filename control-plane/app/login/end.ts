import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { EndLoginResponseSchema, LoginService } from '../../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { asPlatform } from '../../store/port/unit.ts';
import { mutation } from '../use-case.ts';
import { endLogins } from './end-logins.ts';

/** Logs the caller out: this login's tokens are void from now on, whoever holds a copy. */
export const endLogin = mutation('self', LoginService.method.endLogin, {
	prepare({ ctx, nowMs, deps }) {
		const { login } = ctx.actor;
		if (login !== undefined) return { login, id: uuidv7(nowMs, deps.rng) };
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'LOGIN_FAILED',
			message: 'this credential is a key, not a login; nothing was done. Revoke the key to end it: gpuaas key revoke',
		});
	},
	*apply(tx, { nowMs, ctx }, _target, { login, id }) {
		const { issuer, subject, sessionId, issuedAtMs } = login;
		const ending = { issuer, subject, providerSession: sessionId, why: 'logged out', issuedAtMs };
		// Logins are the platform's: revocations and sessions of browsers are of no organization.
		const ended = yield* asPlatform(endLogins(tx, id, ending, nowMs));
		return {
			response: create(EndLoginResponseSchema, {}),
			audit: {
				action: 'logins.end',
				target: `principals/${ctx.actor.id}`,
				result: 'ok',
				reason: '',
				detail: { issuer, browser_sessions: ended },
			},
		};
	},
});
