/**
 * A person's login at an identity provider, as a context keeps it: in the contexts file of mode 0600, because a refresh
 * token is as good as a password until it is used or withdrawn. Times are ms since the epoch.
 */
export interface StoredLogin {
	readonly issuer: string;
	readonly clientId: string;
	readonly accessToken: string;
	readonly expiresAtMs: number;
	/** Used once: each refresh gives a new one. Empty when the provider gives none. */
	readonly refreshToken: string;
}
