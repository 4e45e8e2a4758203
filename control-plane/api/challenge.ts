import { GpuaasError } from '../../kit/error.ts';
import type { PrincipalActor } from '../app/iam/principal.ts';
import type { LoginSettings } from '../app/login/settings.ts';

/** In an error's metadata: becomes the `www-authenticate` header (RFC 9470 section 3). */
const ACR_VALUES = 'acr_values';
const MAX_AGE = 'max_age';

/**
 * What a caller has to do who may do this and hasn't proved enough: a person logs in again and stronger (RFC 9470); a
 * service account, and a key of a person, needs a second person's approval.
 */
export function challenged(error: GpuaasError, actor: PrincipalActor, login: LoginSettings): GpuaasError {
	if (error.reason !== 'STEP_UP_REQUIRED') return error;
	const { metadata } = error;
	// One value: of several, Keycloak takes the lowest.
	const acr = login.stepUpAcr[0];
	if (actor.assurance === undefined || acr === undefined) {
		return new GpuaasError({
			code: 'PERMISSION_DENIED',
			reason: error.reason,
			message:
				"this call needs a person's recent login with a second factor, which a key can't show; log in with the browser, or have a second person approve exactly this request: gpuaas approval request",
			metadata,
		});
	}
	if (!actor.assurance.keysFresh) {
		return new GpuaasError({
			code: 'UNAVAILABLE',
			reason: 'LOGIN_STALE_KEYS',
			message:
				"the identity provider can't be reached, so how strong your login is can't be checked, and this call needs to know; nothing was done. Try again when it is back, or use break-glass",
			metadata,
		});
	}
	const maxAgeS = String(Math.floor(login.stepUpMaxAgeMs / 1000));
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: error.reason,
		message: `this call needs a login with a second factor that is at most ${maxAgeS} s old; nothing was done. Log in again so, then repeat it (the command line asks by itself)`,
		metadata: { ...metadata, [ACR_VALUES]: acr, [MAX_AGE]: maxAgeS },
	});
}

/** The header of an answer with this error; undefined: none. */
export function wwwAuthenticate(error: GpuaasError): string | undefined {
	if (error.code !== 'UNAUTHENTICATED') return undefined;
	const { [ACR_VALUES]: acr, [MAX_AGE]: maxAge } = error.metadata;
	if (error.reason === 'STEP_UP_REQUIRED' && acr !== undefined && maxAge !== undefined) {
		const description = 'a recent login with a second factor is needed';
		return `Bearer error="insufficient_user_authentication", error_description="${description}", acr_values="${acr}", max_age="${maxAge}"`;
	}
	if (error.reason.startsWith('ACCESS_TOKEN_') || error.reason === 'LOGGED_OUT') return 'Bearer error="invalid_token"';
	return 'Bearer';
}
