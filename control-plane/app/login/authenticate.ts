import { GpuaasError } from '../../../kit/error.ts';
import type { Authenticator, PresentedRequest } from '../iam/authenticate.ts';
import type { PrincipalActor } from '../iam/principal.ts';
import type { BrowserLogin } from './browser-login.ts';
import { sessionCookie } from './cookies.ts';
import { type EdgeVerifier, passEdge } from './edge-gate.ts';
import type { TokenLogin } from './token-login.ts';

/**
 * The one door for credentials: looks at the form of what was presented and asks who knows that form. Nothing is tried
 * twice: a token that is no good is never taken for a key, nor the reverse.
 */
export interface CredentialDoors {
	readonly apiKeys: Authenticator;
	readonly breakGlass: Authenticator;
	/** Absent: no provider is configured. */
	readonly tokens?: TokenLogin;
	/** Absent: no console client is configured. */
	readonly browser?: BrowserLogin;
	/** Present where an access proxy stands in front. */
	readonly edge?: EdgeVerifier;
}

/** Far above a key, and above the largest token that is looked at, so that that one gets its own refusal. */
const BEARER = /^Bearer ([\x21-\x7e]{1,15000})$/i;

export class CredentialAuthenticator implements Authenticator {
	readonly #doors: CredentialDoors;

	constructor(doors: CredentialDoors) {
		this.#doors = doors;
	}

	async authenticate(authorization: string | null, request: PresentedRequest): Promise<PrincipalActor> {
		const actor = await this.#actor(authorization, request);
		if (this.#doors.edge !== undefined) await passEdge(this.#doors.edge, actor, request);
		return actor;
	}

	async #actor(authorization: string | null, request: PresentedRequest): Promise<PrincipalActor> {
		const { apiKeys, breakGlass, tokens, browser } = this.#doors;
		const cookie = authorization === null && browser !== undefined ? sessionCookie(request.header('cookie')) : '';
		if (browser !== undefined && cookie !== '') return await browser.actor(cookie, request);
		const bearer = BEARER.exec(authorization ?? '')?.[1];
		if (bearer?.startsWith('gpu_bg_')) return await breakGlass.authenticate(authorization, request);
		if (bearer === undefined || bearer.startsWith('gpu_')) return await apiKeys.authenticate(authorization, request);
		if (tokens === undefined) throw noProvider();
		return await tokens.actor(bearer, request.peer);
	}
}

function noProvider(): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'UNAUTHENTICATED',
		message:
			'the credential is not an API key of this service, or was cut while copying, and this control plane takes no logins of people; send `Authorization: Bearer gpu_uk_...` as it was shown when the key was made',
	});
}
