import { createSecretKey } from 'node:crypto';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Store } from '../../store/port/store.ts';
import { type ApiKey, macOf, parseApiKey, sameMac } from './api-key.ts';
import type { PepperRing } from './pepper.ts';
import { ANONYMOUS, type LoadedCredential, loadCredential, type PrincipalActor, unusable } from './principal.ts';

/** Who sent this request. Resolves to ANONYMOUS without a credential; throws UNAUTHENTICATED for one that is no good. */
export interface Authenticator {
	authenticate(authorization: string | null): Promise<PrincipalActor>;
}

export interface ApiKeyAuthenticatorOptions {
	readonly store: Store;
	readonly clock: Clock;
	readonly log: Logger;
	readonly pepper: PepperRing;
	/** Keys of another environment are refused without a look-up: `dev`, `prod`. */
	readonly environment: string;
}

/** Verified rows are kept while the policy epoch stands still; past this many they are all forgotten. */
const CACHE_ENTRIES_MAX = 10_000;
/** Bindings expire by time, which moves no epoch. */
const CACHE_TTL_MS = 1000;
/** For a version that isn't in the file: the same work, and no match. */
const NO_PEPPER = createSecretKey(Buffer.alloc(32));

/** Bearer API keys. Every failure looks alike to the caller until the secret itself was right. */
export class ApiKeyAuthenticator implements Authenticator {
	readonly #options: ApiKeyAuthenticatorOptions;
	readonly #cache = new Map<string, { readonly loaded: LoadedCredential; readonly untilMs: number }>();

	constructor(options: ApiKeyAuthenticatorOptions) {
		this.#options = options;
	}

	async authenticate(authorization: string | null): Promise<PrincipalActor> {
		if (authorization === null || authorization === '') return ANONYMOUS;
		const bearer = /^Bearer ([\x21-\x7e]{1,256})$/i.exec(authorization)?.[1];
		const key = bearer === undefined ? undefined : parseApiKey(bearer);
		if (key === undefined) throw this.#refuse('malformed', MALFORMED);
		if (key.environment !== this.#options.environment) throw this.#refuse('other environment', WRONG, key);
		const loaded = await this.#load(key);
		// The same work for an unknown id, so that ids can't be found by timing.
		const pepper = this.#options.pepper.of(loaded?.credential.pepperVersion ?? this.#options.pepper.currentVersion);
		const mac = macOf(key, pepper ?? NO_PEPPER);
		const matches = sameMac(loaded?.credential.mac ?? new Uint8Array(mac.length), mac);
		if (loaded === undefined || pepper === undefined || !matches) throw this.#refuse('unknown or wrong', WRONG, key);
		if ((loaded.principal.kind === 'service_account') !== (key.kind === 'sk'))
			throw this.#refuse('other kind', WRONG, key);
		const why = unusable(loaded, this.#options.clock.now());
		if (why !== undefined) throw this.#refuse(why, UNUSABLE[why], key);
		return loaded.actor;
	}

	async #load(key: ApiKey): Promise<LoadedCredential | undefined> {
		const { store, clock } = this.#options;
		const cached = this.#cache.get(key.id);
		if (cached !== undefined && cached.untilMs > clock.monotonic()) {
			const epoch = await store.read((tx) => tx.identities.policyEpoch());
			if (epoch === cached.loaded.actor.policyEpoch) return cached.loaded;
		}
		const loaded = await store.read((tx) => loadCredential(tx, key.id, clock.now()));
		if (loaded === undefined) return undefined;
		if (this.#cache.size >= CACHE_ENTRIES_MAX) this.#cache.clear();
		this.#cache.set(key.id, { loaded, untilMs: clock.monotonic() + CACHE_TTL_MS });
		return loaded;
	}

	#refuse(why: string, message: string, key?: ApiKey): GpuaasError {
		this.#options.log.info('credential refused', { why, credential: key?.id ?? '' });
		return new GpuaasError({ code: 'UNAUTHENTICATED', reason: 'UNAUTHENTICATED', message });
	}
}

const MALFORMED =
	'the credential is not an API key of this service, or was cut while copying; send `Authorization: Bearer gpu_uk_...` as it was shown when the key was made';
const WRONG = 'the API key is not known here; check that it belongs to this control plane, or ask for a new one';
const UNUSABLE = {
	revoked: 'the API key was revoked; ask for a new one',
	expired: 'the API key has expired; ask for a new one',
	disabled: 'the account of this API key is disabled; ask an operator to enable it',
} as const;
