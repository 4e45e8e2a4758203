import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import type { Clock } from '../../../kit/clock.ts';
import type { Logger } from '../../../kit/log.ts';
import { discover } from './discovery.ts';
import { type Fetch, fetchJson, issuerUnavailable } from './fetch-json.ts';
import type { OidcMetrics } from './metrics.ts';

/**
 * The public keys of one issuer. Fetched when first needed, again after ten minutes, and again when a token names a key
 * that isn't there, but never twice within the cooldown: a flood of tokens with invented key ids costs the provider
 * nothing. When fetching fails the last good keys go on, marked as not fresh (reads only), for an hour; then nothing
 * verifies. After a fetch that failed nobody waits for the next one as long as they do: a provider that hangs would hold
 * up every request. A change of keys without an overlap, or to a key that nobody expected, is an alert.
 */
export interface KeySetOptions {
	readonly issuer: string;
	readonly clock: Clock;
	readonly log: Logger;
	readonly fetch: Fetch;
	readonly metrics: OidcMetrics;
	/** Key ids of a planned rotation; empty: only a change without an overlap is unplanned. */
	readonly expectedKeyIds: readonly string[];
	/** Where the keys are, for issuers that have no discovery document. */
	readonly jwksUri?: string;
	readonly freshMs?: number;
	readonly cooldownMs?: number;
	readonly staleMaxMs?: number;
}

export const FRESH_MS = 600_000;
export const COOLDOWN_MS = 30_000;
export const STALE_MAX_MS = 3_600_000;
const KEYS_MAX = 64;

interface Keys {
	readonly find: JWTVerifyGetKey;
	readonly ids: ReadonlySet<string>;
	readonly fetchedAtMs: number;
}

export interface FoundKeys {
	readonly find: JWTVerifyGetKey;
	readonly fresh: boolean;
	/** For how long they stay fresh; 0 when they are not. */
	readonly freshForMs: number;
}

export class KeySet {
	readonly #options: KeySetOptions & Required<Pick<KeySetOptions, 'freshMs' | 'cooldownMs' | 'staleMaxMs'>>;
	#keys: Keys | undefined;
	#triedAtMs = Number.NEGATIVE_INFINITY;
	#fetching: Promise<void> | undefined;
	#hasFailed = false;

	constructor(options: KeySetOptions) {
		this.#options = { freshMs: FRESH_MS, cooldownMs: COOLDOWN_MS, staleMaxMs: STALE_MAX_MS, ...options };
	}

	/** The keys to verify with now; throws ISSUER_UNAVAILABLE when there are none that may still be used. */
	async current(): Promise<FoundKeys> {
		if (!this.#isFresh()) {
			const refetched = this.#refetch();
			if (!this.#hasFailed || !this.#isUsable()) await refetched;
		}
		return this.#found();
	}

	/** After a token named a key that wasn't there: undefined when it is too early to ask again. */
	async renewed(): Promise<FoundKeys | undefined> {
		return (await this.#refetch()) ? this.#found() : undefined;
	}

	/** For readiness and doctor. */
	ageMs(): number | undefined {
		return this.#keys === undefined ? undefined : this.#options.clock.monotonic() - this.#keys.fetchedAtMs;
	}

	#isFresh(): boolean {
		return (this.ageMs() ?? Number.POSITIVE_INFINITY) < this.#options.freshMs;
	}

	#isUsable(): boolean {
		return (this.ageMs() ?? Number.POSITIVE_INFINITY) <= this.#options.staleMaxMs;
	}

	#found(): FoundKeys {
		const ageMs = this.ageMs();
		if (this.#keys === undefined || ageMs === undefined || !this.#isUsable())
			throw issuerUnavailable(`the keys of ${this.#options.issuer} could not be fetched`);
		const freshForMs = Math.max(0, this.#options.freshMs - ageMs);
		return { find: this.#keys.find, fresh: freshForMs > 0, freshForMs };
	}

	/** False when it is too early. A fetch that fails only logs: `#found` decides what that means. */
	async #refetch(): Promise<boolean> {
		const nowMs = this.#options.clock.monotonic();
		if (this.#fetching === undefined) {
			if (nowMs - this.#triedAtMs < this.#options.cooldownMs) return false;
			this.#triedAtMs = nowMs;
			this.#fetching = this.#fetch().finally(() => {
				this.#fetching = undefined;
			});
		}
		await this.#fetching;
		return true;
	}

	async #fetch(): Promise<void> {
		const { issuer, clock, fetch, log, metrics } = this.#options;
		try {
			const jwksUri = this.#options.jwksUri ?? (await discover(issuer, clock, fetch)).jwksUri;
			const document = await fetchJson(jwksUri, clock, fetch);
			const { find, ids } = parseKeys(document);
			this.#watch(ids);
			this.#keys = { find, ids, fetchedAtMs: clock.monotonic() };
			this.#hasFailed = false;
			metrics.fetched(issuer, 'ok');
		} catch (error) {
			this.#hasFailed = true;
			metrics.fetched(issuer, 'failed');
			log.warn('the keys of an identity provider could not be fetched', { issuer, error, ageMs: this.ageMs() ?? -1 });
		}
	}

	#watch(ids: ReadonlySet<string>): void {
		const { issuer, log, metrics, expectedKeyIds } = this.#options;
		const known = this.#keys?.ids;
		const isUnexpected = expectedKeyIds.length > 0 && [...ids].some((id) => !expectedKeyIds.includes(id));
		if (known === undefined && !isUnexpected) return;
		const added = [...ids].filter((id) => known !== undefined && !known.has(id));
		const kept = known === undefined ? ids.size : [...ids].filter((id) => known.has(id)).length;
		if (added.length === 0 && !isUnexpected && kept === known?.size) return;
		const planned = !isUnexpected && kept > 0;
		metrics.keysChanged(issuer, planned);
		const facts = { issuer, keyIds: [...ids], added };
		if (planned) log.info('an identity provider changed its keys', facts);
		else log.error('an identity provider changed its keys unexpectedly: find out whether it was its operator', facts);
	}
}

/** Only public keys: a symmetric one among them would let anybody who reads them sign. */
function parseKeys(document: unknown): Pick<Keys, 'find' | 'ids'> {
	const { keys } = (document ?? {}) as { readonly keys?: unknown };
	if (!Array.isArray(keys) || keys.length > KEYS_MAX) throw new Error('the key document has no list of keys');
	const usable = keys.filter(
		(key): key is JSONWebKeySet['keys'][number] =>
			typeof key === 'object' && key !== null && ['RSA', 'EC', 'OKP'].includes(String(Reflect.get(key, 'kty'))),
	);
	const signing = usable.filter((key) => key.use === undefined || key.use === 'sig');
	if (signing.length === 0) throw new errors.JWKSNoMatchingKey('no signing key is published');
	const ids = new Set(signing.map((key) => String(key.kid ?? '')));
	return { find: createLocalJWKSet({ keys: signing }), ids };
}
