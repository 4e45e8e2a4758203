import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** An API key: what it is called and how far it reaches. Its secrets are credentials, at most two of them live. */
export interface ApiKeyRow {
	readonly id: string;
	readonly principalId: string;
	readonly displayName: string;
	/** Access is what the principal holds AND these, at decision time; empty: no further limit. */
	readonly permissions: readonly string[];
	/** Name of the scope outside of which the key counts for nothing; empty: no further limit. */
	readonly scope: string;
	/** Networks that it may come from, `10.0.0.0/8`; empty: any. */
	readonly cidrs: readonly string[];
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly revokedAtMs: number | null;
	readonly revokedReason: string;
	readonly version: number;
}

/** A secret's verifier: HMAC-SHA256 under pepper `pepperVersion`; the pepper is outside the database. */
export interface CredentialRow {
	readonly id: string;
	readonly principalId: string;
	/** Null for the bootstrap operator's. */
	readonly keyId: string | null;
	readonly mac: Uint8Array;
	readonly pepperVersion: number;
	readonly createdAtMs: number;
	readonly expiresAtMs: number;
	readonly revokedAtMs: number | null;
}

export interface CredentialUseRow {
	readonly credentialId: string;
	readonly usedAtMs: number;
	readonly peer: string;
}

/** Every change but that of `recordUses` raises the policy epoch in the same unit. */
export interface ApiKeys {
	insert(row: ApiKeyRow): Plan<void>;
	get(id: string): Plan<ApiKeyRow | undefined>;
	/** As `get`, and locks nothing. */
	find(id: string): Plan<ApiKeyRow | undefined>;
	update(
		id: string,
		patch: Partial<Pick<ApiKeyRow, 'displayName' | 'revokedAtMs' | 'revokedReason'>>,
		ifVersion?: number,
	): Plan<ApiKeyRow | undefined>;
	/** By id. */
	list(page: Page & { readonly principalIds: readonly string[] }): Plan<readonly ApiKeyRow[]>;

	insertCredential(row: CredentialRow): Plan<void>;
	getCredential(id: string): Plan<CredentialRow | undefined>;
	/** Keys of the principal, but this one, that have a secret which lives at `nowMs`. */
	countLive(principalId: string, nowMs: number, exceptKeyId: string): Plan<number>;
	/** Of these keys, oldest first. */
	credentialsOf(keyIds: readonly string[]): Plan<readonly CredentialRow[]>;
	/** False when it was revoked before. */
	revokeCredential(id: string, atMs: number): Plan<boolean>;
	setExpiry(id: string, expiresAtMs: number): Plan<void>;
	/** All of the principal, keys too. */
	revokeAllOf(principalId: string, atMs: number, reason: string): Plan<void>;

	/** Keeps the newest of each. */
	recordUses(uses: readonly CredentialUseRow[]): Plan<void>;
	usesOf(credentialIds: readonly string[]): Plan<readonly CredentialUseRow[]>;
}
