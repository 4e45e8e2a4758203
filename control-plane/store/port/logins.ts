import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** Verified addresses of this domain at this issuer belong to the organization. */
export interface LoginDomainRow {
	readonly id: string;
	readonly issuer: string;
	/** Lower case, without `@`. */
	readonly domain: string;
	/** Id of the organization. */
	readonly organization: string;
	readonly createdAtMs: number;
	readonly createdBy: string;
}

/** Tokens that were made before `revokedAtMs` for this session, or for this subject, are void. */
export interface LoginRevocationRow {
	readonly id: string;
	readonly issuer: string;
	/** Empty: by session. */
	readonly subject: string;
	/** `sid` at the provider; empty: every session of the subject. */
	readonly providerSession: string;
	readonly revokedAtMs: number;
	/** When the last token that it voids has expired by itself. */
	readonly expiresAtMs: number;
}

export interface Logins {
	/** Throws ALREADY_EXISTS. */
	insertDomain(row: LoginDomainRow): Plan<void>;
	getDomain(issuer: string, domain: string): Plan<LoginDomainRow | undefined>;
	deleteDomain(id: string): Plan<LoginDomainRow | undefined>;
	/** By id. */
	listDomains(page: Page): Plan<readonly LoginDomainRow[]>;

	/** Raises the policy epoch: what was decided for these tokens is decided again. */
	insertRevocation(row: LoginRevocationRow): Plan<void>;
	/** The latest that concerns a token of this session and subject; undefined: none. */
	revokedAt(issuer: string, subject: string, providerSession: string): Plan<number | undefined>;

	/** False when this id was seen before. */
	useTokenId(id: string, expiresAtMs: number): Plan<boolean>;
	/** Revocations and token ids that no longer matter. */
	sweep(beforeMs: number): Plan<number>;
}
