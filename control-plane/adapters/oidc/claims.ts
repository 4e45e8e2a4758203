import type { JWTHeaderParameters, JWTPayload } from 'jose';
import type { VerifiedToken } from '../../app/login/token-verifier.ts';
import { tokenRefused } from './refused.ts';
import type { TokenRules } from './rules.ts';

/**
 * The checks that come after the signature and the registered claims, which jose did (RFC 9068 section 4, RFC 8725).
 * Pure. Each one exists because some provider or some product went without it.
 */
const TEXT_MAX = 255;

export function checkClaims(
	header: Pick<JWTHeaderParameters, 'typ'>,
	payload: JWTPayload,
	rules: TokenRules,
): Omit<VerifiedToken, 'keysFresh'> {
	checkType(header, payload);
	const clientId = clientOf(payload);
	if (clientId === undefined || !rules.clients.includes(clientId)) throw tokenRefused('ACCESS_TOKEN_CLIENT');
	const { iat, exp } = payload;
	const subject = textOf(payload.sub);
	const tokenId = textOf(payload.jti);
	if (subject === '' || tokenId === '' || iat === undefined || exp === undefined)
		throw tokenRefused('ACCESS_TOKEN_CLAIMS');
	if (exp <= iat || (exp - iat) * 1000 > rules.tokenLifetimeMaxMs) throw tokenRefused('ACCESS_TOKEN_TIME');
	const authTime = payload.auth_time;
	const isTime = typeof authTime === 'number' && Number.isSafeInteger(authTime) && authTime > 0;
	if (isTime && authTime * 1000 > iat * 1000 + rules.clockSkewMaxMs) throw tokenRefused('ACCESS_TOKEN_TIME');
	return {
		issuer: rules.issuer,
		subject,
		tokenId,
		clientId,
		sessionId: textOf(payload.sid),
		acr: textOf(payload.acr),
		amr: Array.isArray(payload.amr)
			? payload.amr
					.map(textOf)
					.filter((method) => method !== '')
					.slice(0, 16)
			: [],
		authenticatedAtMs: isTime ? authTime * 1000 : null,
		issuedAtMs: iat * 1000,
		expiresAtMs: exp * 1000 + rules.clockSkewMaxMs,
		email: textOf(payload.email).toLowerCase(),
		emailVerified: payload.email_verified === true,
		displayName: textOf(payload.name) || textOf(payload.preferred_username),
	};
}

/**
 * `at+jwt` in the header (RFC 9068), else Keycloak's own `typ: Bearer` in the payload. A payload that says that it is
 * something else is believed, whatever the header says; so are claims that only other tokens have.
 */
function checkType({ typ }: Pick<JWTHeaderParameters, 'typ'>, payload: JWTPayload): void {
	const headerType = typ?.toLowerCase().replace(/^application\//, '');
	const payloadType = payload.typ;
	const isAccessToken = headerType === 'at+jwt' ? payloadType === undefined || payloadType === 'Bearer' : false;
	const isKeycloakBearer = (headerType === undefined || headerType === 'jwt') && payloadType === 'Bearer';
	if (!isAccessToken && !isKeycloakBearer) throw tokenRefused('ACCESS_TOKEN_TYPE');
	for (const claim of ['at_hash', 'c_hash', 'events']) if (claim in payload) throw tokenRefused('ACCESS_TOKEN_TYPE');
	// Bound to a key (DPoP, mTLS): taken as a bearer token, it would lose exactly what it is for.
	if ('cnf' in payload) throw tokenRefused('ACCESS_TOKEN_TYPE');
}

/** Two that differ: nobody can say for whom the token is. */
function clientOf(payload: JWTPayload): string | undefined {
	const named = [payload.azp, payload.client_id].filter((value) => value !== undefined);
	return named.length > 0 && new Set(named).size === 1 ? textOf(named[0]) : undefined;
}

function textOf(value: unknown): string {
	return typeof value === 'string' && value.length <= TEXT_MAX ? value : '';
}
