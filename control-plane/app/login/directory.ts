/** Where people are kept, asked about one of them; implemented by adapters/oidc/keycloak-directory.ts. */
export interface Directory {
	/** Of whose people it knows. */
	readonly issuers: readonly string[];
	/** `gone`: it doesn't know this subject. Throws ISSUER_UNAVAILABLE, and soon once `signal` aborts. */
	statusOf(issuer: string, subject: string, signal?: AbortSignal): Promise<'active' | 'disabled' | 'gone'>;
}
