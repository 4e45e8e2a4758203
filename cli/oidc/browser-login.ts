import { spawn } from 'node:child_process';
import {
	authorizationCodeGrant,
	buildAuthorizationUrl,
	calculatePKCECodeChallenge,
	randomNonce,
	randomPKCECodeVerifier,
	randomState,
} from 'openid-client';
import { type Io, write } from '../io.ts';
import { openLoopback } from './loopback.ts';
import { loginFailed, openProvider, SCOPE, storedLogin, whyOf } from './provider.ts';
import type { StoredLogin } from './stored-login.ts';

/** How long a person may take at the provider's pages. */
const ANSWER_WAIT_MAX_MS = 300_000;

/** What a control plane asks for before it takes a sensitive call (RFC 9470). */
export interface StepUpDemand {
	readonly acrValues: string;
	readonly maxAgeS: string;
}

/**
 * A login in the browser: authorization code with PKCE (RFC 7636), state, nonce, and the issuer of the answer (RFC 9207),
 * all checked before the code is used. The code comes back to a listener on this machine.
 */
export async function logInByBrowser(
	io: Io,
	at: Pick<StoredLogin, 'issuer' | 'clientId'>,
	stepUp?: StepUpDemand,
): Promise<StoredLogin> {
	const provider = await openProvider(at.issuer, at.clientId);
	await using loopback = await openLoopback();
	const pkceCodeVerifier = randomPKCECodeVerifier();
	const expectedState = randomState();
	const expectedNonce = randomNonce();
	const address = buildAuthorizationUrl(provider, {
		redirect_uri: loopback.redirectUri,
		scope: SCOPE,
		code_challenge: await calculatePKCECodeChallenge(pkceCodeVerifier),
		code_challenge_method: 'S256',
		state: expectedState,
		nonce: expectedNonce,
		// One value: of several, Keycloak takes the lowest.
		...(stepUp === undefined ? {} : { acr_values: stepUp.acrValues, max_age: stepUp.maxAgeS }),
	});
	await write(io.stderr, `Open this address to log in:\n${address.href}\n`);
	openInBrowser(io, address.href);
	const waiting = new AbortController();
	const timer = io.clock.setTimer(() => waiting.abort(), ANSWER_WAIT_MAX_MS);
	try {
		const answer = await loopback.answer(AbortSignal.any([waiting.signal, io.interrupt]));
		const tokens = await authorizationCodeGrant(provider, answer, {
			pkceCodeVerifier,
			expectedState,
			expectedNonce,
			idTokenExpected: true,
		});
		return storedLogin(io, at, tokens);
	} catch (error) {
		throw loginFailed(whyOf(error), error);
	} finally {
		timer.cancel();
	}
}

/** Whether there is somebody to ask: a terminal, or a program that opens addresses. */
export function canAsk(io: Io): boolean {
	return io.stderr.isTTY === true || (io.env.BROWSER ?? '') !== '';
}

/** By `$BROWSER`, else by the desktop's own way. Only a convenience: the address stands in the terminal. */
function openInBrowser(io: Io, address: string): void {
	const hasDesktop = (io.env.DISPLAY ?? '') !== '' || (io.env.WAYLAND_DISPLAY ?? '') !== '';
	const program = io.env.BROWSER || (hasDesktop ? 'xdg-open' : '');
	if (program === '') return;
	const child = spawn(program, [address], { stdio: 'ignore', detached: true, env: { ...io.env } });
	child.on('error', () => {});
	child.unref();
}
