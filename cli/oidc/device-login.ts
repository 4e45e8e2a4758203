import {
	calculatePKCECodeChallenge,
	initiateDeviceAuthorization,
	pollDeviceAuthorizationGrant,
	randomPKCECodeVerifier,
} from 'openid-client';
import { type Io, printable, write } from '../io.ts';
import { loginFailed, openProvider, SCOPE, storedLogin, whyOf } from './provider.ts';
import type { StoredLogin } from './stored-login.ts';

/**
 * A login without a browser on this machine (RFC 8628): the person enters a code elsewhere while we ask the provider, as
 * often as it allows. Not for step-up: whoever is talked into entering a code would lend that strength to a stranger.
 */
export async function logInByDevice(io: Io, at: Pick<StoredLogin, 'issuer' | 'clientId'>): Promise<StoredLogin> {
	const provider = await openProvider(at.issuer, at.clientId);
	if (provider.serverMetadata().device_authorization_endpoint === undefined)
		throw loginFailed('this provider has no device flow; log in with a browser, or use an API key');
	try {
		// Beyond the RFC: Keycloak demands PKCE here too where the client demands it, and others look past it.
		const code_verifier = randomPKCECodeVerifier();
		const asked = await initiateDeviceAuthorization(provider, {
			scope: SCOPE,
			code_challenge: await calculatePKCECodeChallenge(code_verifier),
			code_challenge_method: 'S256',
		});
		const direct = asked.verification_uri_complete;
		await write(
			io.stderr,
			`On any device, open ${printable(asked.verification_uri)} and enter ${printable(asked.user_code)}\n${
				direct === undefined ? '' : `or open ${printable(direct)}\n`
			}`,
		);
		const tokens = await pollDeviceAuthorizationGrant(provider, asked, { code_verifier }, { signal: io.interrupt });
		return storedLogin(io, at, tokens);
	} catch (error) {
		throw loginFailed(whyOf(error), error);
	}
}
