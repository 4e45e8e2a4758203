/**
 * What an access token must be to count as a login here. From the configuration; every bound has its reason.
 */
export interface TokenRules {
	readonly issuer: string;
	/** What must be among the token's audiences. */
	readonly audience: string;
	/** The clients whose tokens are taken (`azp`). */
	readonly clients: readonly string[];
	/** Asymmetric only: with a symmetric one, whoever holds the public key could sign (key confusion). */
	readonly algorithms: readonly string[];
	/** Longest life from `iat` to `exp`: how long a stolen token, or a withdrawn account, is good. */
	readonly tokenLifetimeMaxMs: number;
	/** How far the provider's clock may be off ours. */
	readonly clockSkewMaxMs: number;
}

/** Far above real tokens (1 to 3 KiB) and below what a request's headers may be in all. */
export const TOKEN_BYTES_MAX = 8192;
