import type { Clock } from '../../../kit/clock.ts';
import { type Fetch, fetchJson, issuerUnavailable } from './fetch-json.ts';

/** What we use of a provider's metadata (OpenID Connect Discovery 1.0, RFC 8414). */
export interface ProviderMetadata {
	readonly issuer: string;
	readonly jwksUri: string;
}

/**
 * Reads the discovery document. Its issuer must be the configured one, character by character: else one provider could
 * answer in the name of another (RFC 8414 section 3.3). Addresses must be HTTPS, or HTTP on loopback.
 */
export async function discover(issuer: string, clock: Clock, fetch: Fetch): Promise<ProviderMetadata> {
	const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
	const document = await fetchJson(url, clock, fetch);
	const { issuer: named, jwks_uri: jwksUri } = (document ?? {}) as Readonly<Record<string, unknown>>;
	if (named !== issuer) throw issuerUnavailable(`its discovery document names another issuer than ${issuer}`);
	if (typeof jwksUri !== 'string' || !isSafeUrl(jwksUri))
		throw issuerUnavailable('its discovery document has no jwks_uri with https');
	return { issuer, jwksUri };
}

export function isSafeUrl(text: string): boolean {
	if (!URL.canParse(text)) return false;
	const { protocol, hostname, username, password } = new URL(text);
	if (username !== '' || password !== '') return false;
	return protocol === 'https:' || (protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(hostname));
}
