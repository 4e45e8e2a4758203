import {
	allowInsecureRequests,
	authorizationCodeGrant,
	buildAuthorizationUrl,
	buildEndSessionUrl,
	ClientSecretBasic,
	type Configuration,
	calculatePKCECodeChallenge,
	discovery,
	ResponseBodyError,
	randomNonce,
	randomPKCECodeVerifier,
	randomState,
	refreshTokenGrant,
} from 'openid-client';
import { GpuaasError, messageOf } from '../../../kit/error.ts';
import type { BegunLogin, KeptLogin, StepUpWish, WebProvider, WebTokens } from '../../app/login/web-provider.ts';
import { issuerUnavailable } from './fetch-json.ts';

export interface WebClientSettings {
	readonly clientId: string;
	readonly clientSecret: string;
	/** `https://gpuaas.example`: what browsers see of us. */
	readonly origin: string;
}

const TIMEOUT_S = 10;

/** The console as a confidential client: code with PKCE, state, nonce, and the issuer of the answer (RFC 9207). */
export class WebClient implements WebProvider {
	readonly #settings: WebClientSettings;
	readonly #providers = new Map<string, Promise<Configuration>>();

	constructor(settings: WebClientSettings) {
		this.#settings = settings;
	}

	async begin(issuer: string, stepUp: StepUpWish | undefined): Promise<BegunLogin> {
		const codeVerifier = randomPKCECodeVerifier();
		const state = randomState();
		const nonce = randomNonce();
		const url = buildAuthorizationUrl(await this.#open(issuer), {
			redirect_uri: this.#redirectUri,
			scope: 'openid email profile',
			code_challenge: await calculatePKCECodeChallenge(codeVerifier),
			code_challenge_method: 'S256',
			state,
			nonce,
			...(stepUp === undefined ? {} : { acr_values: stepUp.acr, max_age: String(stepUp.maxAgeS) }),
		});
		return { url: url.href, state, kept: { codeVerifier, nonce } };
	}

	async complete(issuer: string, answer: URL, state: string, kept: KeptLogin): Promise<WebTokens> {
		const seen = new URL(this.#redirectUri);
		seen.search = answer.search;
		try {
			const tokens = await authorizationCodeGrant(await this.#open(issuer), seen, {
				pkceCodeVerifier: kept.codeVerifier,
				expectedState: state,
				expectedNonce: kept.nonce,
				idTokenExpected: true,
			});
			return { accessToken: tokens.access_token, refreshToken: tokens.refresh_token ?? '' };
		} catch (cause) {
			if (cause instanceof GpuaasError) throw cause;
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'LOGIN_STATE_INVALID',
				message: `the provider's answer is not used: ${messageOf(cause)}; nobody was logged in. Start again from the login page`,
				cause,
			});
		}
	}

	async refresh(issuer: string, refreshToken: string): Promise<WebTokens | undefined> {
		try {
			const tokens = await refreshTokenGrant(await this.#open(issuer), refreshToken);
			return { accessToken: tokens.access_token, refreshToken: tokens.refresh_token ?? '' };
		} catch (error) {
			if (error instanceof ResponseBodyError && error.error === 'invalid_grant') return undefined;
			throw issuerUnavailable(`${issuer} answered: ${messageOf(error)}`, error);
		}
	}

	async logoutUrl(issuer: string): Promise<string | undefined> {
		const provider = await this.#open(issuer);
		if (provider.serverMetadata().end_session_endpoint === undefined) return undefined;
		return buildEndSessionUrl(provider, { client_id: this.#settings.clientId }).href;
	}

	get #redirectUri(): string {
		return `${this.#settings.origin}/auth/callback`;
	}

	#open(issuer: string): Promise<Configuration> {
		const known = this.#providers.get(issuer);
		if (known !== undefined) return known;
		const { clientId, clientSecret } = this.#settings;
		const isHttp = issuer.startsWith('http:');
		const opened = discovery(new URL(issuer), clientId, undefined, ClientSecretBasic(clientSecret), {
			timeout: TIMEOUT_S,
			...(isHttp ? { execute: [allowInsecureRequests] } : {}),
		}).catch((error: unknown) => {
			this.#providers.delete(issuer);
			throw issuerUnavailable(`${issuer} gave no usable discovery document (${messageOf(error)})`, error);
		});
		this.#providers.set(issuer, opened);
		return opened;
	}
}
