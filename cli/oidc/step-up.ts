import { GpuaasError } from '../../kit/error.ts';
import { changeContext, pickContext } from '../contexts.ts';
import { type Io, write } from '../io.ts';
import { canAsk, logInByBrowser } from './browser-login.ts';

/**
 * Answers a step-up challenge (RFC 9470): the person proves more, or again, at the provider, and the stored login becomes
 * the stronger one. False when the challenge can't be answered by a login, or nobody is there to ask.
 */
export async function stepUp(io: Io, contextName: string, challenge: GpuaasError): Promise<boolean> {
	const { acr_values: acrValues, max_age: maxAgeS } = challenge.metadata;
	const { login } = await pickContext(io, contextName);
	if (acrValues === undefined || maxAgeS === undefined || login === undefined || !canAsk(io)) return false;
	await write(io.stderr, 'This needs a recent login with a second factor.\n');
	const stronger = await logInByBrowser(io, login, { acrValues, maxAgeS });
	if (subjectOf(stronger.accessToken) !== subjectOf(login.accessToken)) {
		throw new GpuaasError({
			code: 'UNAUTHENTICATED',
			reason: 'LOGIN_FAILED',
			message:
				'the browser is logged in as somebody else than this context; nothing was sent. Log out there, or make a context of its own: gpuaas login --name NAME',
		});
	}
	await changeContext(io, contextName, async (context) => ({ ...context, login: stronger }));
	return true;
}

/** Of our own token, over TLS from its provider: only to tell two people apart before anything is sent. */
function subjectOf(token: string): unknown {
	try {
		const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
		return typeof claims === 'object' && claims !== null ? Reflect.get(claims, 'sub') : undefined;
	} catch {
		return undefined;
	}
}
