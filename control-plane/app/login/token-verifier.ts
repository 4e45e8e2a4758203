/**
 * What login asks of an identity provider, whatever its protocol library: implemented by adapters/oidc, faked nowhere.
 * A verified token says who came and how strongly; what they may do is in the database only, so roles and groups in a
 * token are never looked at.
 */
export interface VerifiedToken {
	/** Exactly as the provider's discovery document has it. */
	readonly issuer: string;
	/** With the issuer it is the user; never the e-mail or the name. */
	readonly subject: string;
	/** `jti`. */
	readonly tokenId: string;
	/** The client that the token was made for (`azp`, or `client_id` of RFC 9068). */
	readonly clientId: string;
	/** `sid` of the session at the provider, or empty: what a back-channel logout names. */
	readonly sessionId: string;
	/** Authentication context class, or empty. Looked up in a list, never compared by size. */
	readonly acr: string;
	readonly amr: readonly string[];
	/** When the person last proved who they are; null when the provider doesn't say. */
	readonly authenticatedAtMs: number | null;
	readonly issuedAtMs: number;
	/** From then on it counts for nothing here: its `exp`, later by the clock skew that is allowed. */
	readonly expiresAtMs: number;
	/** Lower case; empty when the token has none. */
	readonly email: string;
	readonly emailVerified: boolean;
	readonly displayName: string;
	/** False while the provider's keys could not be fetched again in time: good enough to read, not to change. */
	readonly keysFresh: boolean;
}

/** Who a provider said was there. */
export type Person = Pick<VerifiedToken, 'issuer' | 'subject' | 'email' | 'emailVerified'>;

export interface TokenVerifier {
	/** Throws UNAUTHENTICATED with one of the ACCESS_TOKEN reasons, or UNAVAILABLE ISSUER_UNAVAILABLE. */
	verify(token: string): Promise<VerifiedToken>;
}
