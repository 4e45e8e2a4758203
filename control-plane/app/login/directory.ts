/** Where people are kept, asked about one of them; implemented by adapters/oidc/keycloak-directory.ts. */
export interface Directory {
	/** Of whose people it knows. */
	readonly issuers: readonly string[];
	/** `gone`: it doesn't know this subject. Throws ISSUER_UNAVAILABLE. */
	statusOf(issuer: string, subject: string): Promise<'active' | 'disabled' | 'gone'>;
}
