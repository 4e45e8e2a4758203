import {
	allowInsecureRequests,
	ClientSecretBasic,
	type Configuration,
	clientCredentialsGrant,
	customFetch,
	discovery,
} from 'openid-client';
import type { Clock } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Directory } from '../../app/login/directory.ts';
import { cutBy, type Fetch, getJson, issuerUnavailable } from './fetch-json.ts';

export interface KeycloakDirectorySettings {
	/** `https://id.example/realms/gpuaas` */
	readonly issuers: readonly string[];
	/** A confidential client whose service account may view users (realm-management: view-users), and nothing else. */
	readonly clientId: string;
	readonly clientSecret: string;
}

interface Granted {
	readonly access_token: string;
	readonly expires_in?: number | undefined;
}

/** Whom one question goes to, and by what. */
interface Asked {
	readonly issuer: string;
	readonly fetch: Fetch;
}

const REALM = /^(https?:\/\/[^?#]+)\/realms\/([^/?#]+)$/;
const TIMEOUT_S = 10;
/** A token is not used in its last seconds. */
const MARGIN_MS = 10_000;

/** Whether an issuer is a realm of a Keycloak, by the form of its address. */
export function isRealm(issuer: string): boolean {
	return REALM.test(issuer);
}

/** Keycloak's admin API, for one question: is this subject enabled? */
export class KeycloakDirectory implements Directory {
	readonly issuers: readonly string[];
	readonly #settings: KeycloakDirectorySettings;
	readonly #clock: Clock;
	readonly #fetch: Fetch;
	readonly #grant: (issuer: string, fetch: Fetch) => Promise<Granted>;
	readonly #tokens = new Map<string, { readonly text: string; readonly untilMs: number }>();

	constructor(
		settings: KeycloakDirectorySettings,
		clock: Clock,
		fetch: Fetch = globalThis.fetch,
		grant: (issuer: string, fetch: Fetch) => Promise<Granted> = async (issuer, fetch) =>
			clientCredentialsGrant(await this.#open(issuer, fetch)),
	) {
		this.issuers = settings.issuers.filter(isRealm);
		this.#settings = settings;
		this.#clock = clock;
		this.#fetch = fetch;
		this.#grant = grant;
	}

	/**
	 * `gone` only by Keycloak's own words, and only from a directory that knows the one who asks: a proxy that keeps the admin
	 * API away answers 404 for everybody. Somebody who is locked out for a while by wrong passwords, which versions before
	 * 26.3 tell as not enabled, is still there.
	 */
	async statusOf(issuer: string, subject: string, signal?: AbortSignal): Promise<'active' | 'disabled' | 'gone'> {
		const by = { issuer, fetch: cutBy(signal, this.#fetch) };
		const { status, body } = await this.#get(by, `users/${encodeURIComponent(subject)}`);
		if (status === 404 && field(body, 'error') === 'User not found') {
			await this.#assertKnowsUs(by);
			return 'gone';
		}
		const enabled = field(body, 'enabled');
		if (status !== 200 || typeof enabled !== 'boolean') throw this.#unusable(issuer, status);
		if (enabled) return 'active';
		const attacked = await this.#get(by, `attack-detection/brute-force/users/${encodeURIComponent(subject)}`);
		const isLockedOut = field(attacked.body, 'disabled');
		if (attacked.status !== 200 || typeof isLockedOut !== 'boolean') throw this.#unusable(issuer, attacked.status);
		return isLockedOut ? 'active' : 'disabled';
	}

	async #assertKnowsUs(by: Asked): Promise<void> {
		const { issuer } = by;
		const payload = (await this.#token(by)).split('.')[1] ?? '';
		const own: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
		const subject = field(own, 'sub');
		if (typeof subject !== 'string') throw this.#unusable(issuer, 0);
		const { status, body } = await this.#get(by, `users/${encodeURIComponent(subject)}`);
		if (status !== 200 || field(body, 'id') !== subject) throw this.#unusable(issuer, status);
	}

	async #get(by: Asked, path: string): Promise<{ readonly status: number; readonly body: unknown }> {
		const url = `${by.issuer.replace(REALM, '$1/admin/realms/$2')}/${path}`;
		const authorization = `Bearer ${await this.#token(by)}`;
		return await getJson(url, this.#clock, by.fetch, { authorization });
	}

	#unusable(issuer: string, status: number): Error {
		this.#tokens.delete(issuer);
		const needs = 'its client needs the role view-users, and the way to /admin/realms must be open from here';
		return issuerUnavailable(`the directory of ${issuer} gave no usable answer (HTTP ${status}); ${needs}`);
	}

	async #token({ issuer, fetch }: Asked): Promise<string> {
		const known = this.#tokens.get(issuer);
		if (known !== undefined && this.#clock.monotonic() < known.untilMs) return known.text;
		try {
			const granted = await this.#grant(issuer, fetch);
			const lifeMs = (granted.expires_in ?? 0) * 1000;
			this.#tokens.set(issuer, {
				text: granted.access_token,
				untilMs: this.#clock.monotonic() + Math.max(0, lifeMs - MARGIN_MS),
			});
			return granted.access_token;
		} catch (error) {
			throw issuerUnavailable(`${issuer} gave the directory's client no token (${messageOf(error)})`, error);
		}
	}

	#open(issuer: string, fetch: Fetch): Promise<Configuration> {
		const { clientId, clientSecret } = this.#settings;
		return discovery(new URL(issuer), clientId, undefined, ClientSecretBasic(clientSecret), {
			timeout: TIMEOUT_S,
			[customFetch]: (url, { body, ...options }) => fetch(url, { ...options, body: body ?? null }),
			...(issuer.startsWith('http:') ? { execute: [allowInsecureRequests] } : {}),
		});
	}
}

function field(body: unknown, name: string): unknown {
	return typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
}
