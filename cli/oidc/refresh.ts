import { ResponseBodyError, refreshTokenGrant, tokenRevocation } from 'openid-client';
import { GpuaasError } from '../../kit/error.ts';
import { changeContext, pickContext } from '../contexts.ts';
import type { Io } from '../io.ts';
import { loginFailed, openProvider, storedLogin, whyOf } from './provider.ts';
import type { StoredLogin } from './stored-login.ts';

/** Asked for anew this long before its end, so that it doesn't end on the way. */
const EARLY_MS = 20_000;

/** An access token that is good now. A new one is stored before it is used: its refresh token works only once. */
export async function accessToken(io: Io, contextName: string): Promise<string> {
	const { login } = await pickContext(io, contextName);
	if (login === undefined) throw loggedOut();
	if (login.expiresAtMs > io.clock.now() + EARLY_MS) return login.accessToken;
	// Two commands at once with one refresh token would look like a thief to the provider: one of them asks.
	const changed = await changeContext(io, contextName, async (context) => {
		if (context.login === undefined) throw loggedOut();
		if (context.login.expiresAtMs > io.clock.now() + EARLY_MS) return context;
		return { ...context, login: await refreshed(io, context.login) };
	});
	return changed.login?.accessToken ?? '';
}

async function refreshed(io: Io, login: StoredLogin): Promise<StoredLogin> {
	if (login.refreshToken === '') throw loggedOut();
	const provider = await openProvider(login.issuer, login.clientId);
	try {
		return storedLogin(io, login, await refreshTokenGrant(provider, login.refreshToken), login.refreshToken);
	} catch (error) {
		if (error instanceof ResponseBodyError && error.error === 'invalid_grant') throw loggedOut(error);
		throw loginFailed(whyOf(error), error);
	}
}

/** Withdraws the login at the provider; false when it could not be asked, and then its own limits end it. */
export async function revokeLogin(login: StoredLogin): Promise<boolean> {
	try {
		const provider = await openProvider(login.issuer, login.clientId);
		if (provider.serverMetadata().revocation_endpoint === undefined) return false;
		await tokenRevocation(provider, login.refreshToken === '' ? login.accessToken : login.refreshToken);
		return true;
	} catch {
		return false;
	}
}

function loggedOut(cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'LOGGED_OUT',
		message: 'the login of this context has ended; log in again with: gpuaas login',
		cause,
	});
}
