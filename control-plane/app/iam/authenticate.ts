import { createSecretKey } from 'node:crypto';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Store } from '../../store/port/store.ts';
import { type ApiKey, macOf, parseApiKey, sameMac } from './api-key.ts';
import { isWithin } from './cidr.ts';
import type { PepperRing } from './pepper.ts';
import type { PolicyCache } from './policy-view.ts';
import { ANONYMOUS, type LoadedCredential, loadCredential, type PrincipalActor, unusable } from './principal.ts';

/** Who sent this request. Resolves to ANONYMOUS without a credential; throws UNAUTHENTICATED for one that is no good. */
export interface Authenticator {
	authenticate(authorization: string | null, request: PresentedRequest): Promise<PrincipalActor>;
}

/** What else of a request may say who sent it. */
export interface PresentedRequest {
	/** The address of the caller, after trusted proxies. */
	readonly peer: string;
	readonly header: (name: string) => string | null;
	/** Whether the method only reads: a browser's session needs no proof against forged requests for those. */
	readonly isRead: boolean;
}

export interface ApiKeyAuthenticatorOptions {
	readonly store: Store;
	readonly clock: Clock;
	readonly log: Logger;
	readonly pepper: PepperRing;
	/** Keys of another environment are refused without a look-up: `dev`, `prod`. */
	readonly environment: string;
	readonly policies: PolicyCache;
	/** Told of every key that was taken. */
	readonly uses: { seen(credentialId: string, peer: string): void };
}

/** Verified rows are kept while the policy epoch stands still; past this many they are all forgotten. */
const CACHE_ENTRIES_MAX = 10_000;
/** For a version that isn't in the file: the same work, and no match. */
const NO_PEPPER = createSecretKey(Buffer.alloc(32));

/** Bearer API keys. Every failure looks alike to the caller until the secret itself was right. */
export class ApiKeyAuthenticator implements Authenticator {
	readonly #options: ApiKeyAuthenticatorOptions;
	readonly #cache = new Map<string, LoadedCredential>();

	constructor(options: ApiKeyAuthenticatorOptions) {
		this.#options = options;
	}

	async authenticate(authorization: string | null, { peer }: Pick<PresentedRequest, 'peer'>): Promise<PrincipalActor> {
		if (authorization === null || authorization === '') return ANONYMOUS;
		const bearer = /^Bearer ([\x21-\x7e]{1,256})$/i.exec(authorization)?.[1];
		const key = bearer === undefined ? undefined : parseApiKey(bearer);
		if (key === undefined) throw this.#refuse('malformed', JOIN_TOKEN.test(authorization) ? OF_A_HOST : MALFORMED);
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
		const { cidrs } = loaded.actor.limits;
		if (cidrs.length > 0 && !isWithin(cidrs, peer)) throw this.#refuseAddress(key);
		this.#options.uses.seen(key.id, peer);
		return loaded.actor;
	}

	/** One look at the policy epoch; the rest only after that has moved. */
	async #load(key: ApiKey): Promise<LoadedCredential | undefined> {
		const { store, clock, policies } = this.#options;
		const nowMs = clock.now();
		const cached = this.#cache.get(key.id);
		const loaded = await store.read(function* (tx) {
			const view = yield* policies.committed(tx);
			if (cached?.actor.policyEpoch === view.epoch && nowMs < cached.actor.access.validUntilMs) return cached;
			return yield* loadCredential(tx, view, key.id, nowMs);
		});
		if (loaded === undefined || loaded === cached) return loaded;
		if (this.#cache.size >= CACHE_ENTRIES_MAX) this.#cache.clear();
		this.#cache.set(key.id, loaded);
		return loaded;
	}

	#refuseAddress(key: ApiKey): GpuaasError {
		this.#options.log.info('credential refused', { why: 'other network', credential: key.id });
		return new GpuaasError({
			code: 'UNAUTHENTICATED',
			reason: 'CREDENTIAL_ADDRESS',
			message:
				'the API key may not be used from your address; use it from one of its networks, or ask for a key without',
		});
	}

	#refuse(why: string, message: string, key?: ApiKey): GpuaasError {
		this.#options.log.info('credential refused', { why, credential: key?.id ?? '' });
		return new GpuaasError({ code: 'UNAUTHENTICATED', reason: 'UNAUTHENTICATED', message });
	}
}

const MALFORMED =
	'the credential is not an API key of this service, or was cut while copying; send `Authorization: Bearer gpu_uk_...` as it was shown when the key was made';
/** Longer than any key. */
const JOIN_TOKEN = /^Bearer gpu_jt_/i;
const OF_A_HOST =
	'this is a join token, which enrolls one host and calls nothing: give it to `gpuaas agent enroll` on that host, and here send an API key';
const WRONG = 'the API key is not known here; check that it belongs to this control plane, or ask for a new one';
const UNUSABLE = {
	revoked: 'the API key was revoked; ask for a new one',
	expired: 'the API key has expired; ask for a new one',
	break_glass:
		'break-glass is opened by its registered keys and has no API keys; begin with: gpuaas break-glass begin --reason TEXT',
	disabled: 'the account of this API key is disabled; ask an operator to enable it',
	suspended:
		'the organization, department or project that this service account belongs to is suspended or being deleted; ask its owner',
} as const;
