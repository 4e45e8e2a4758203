import { createServer, type Server } from 'node:http';
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose';
import { assert } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';

interface KeyPair {
	readonly privateKey: CryptoKey;
	readonly publicKey: CryptoKey;
}

/**
 * An issuer of access tokens on this host, for tokens that no real provider would give: its documents are served over
 * HTTP, and it signs whatever it is told to. What real providers do is tested with real ones.
 */
export class StaticIssuer implements AsyncDisposable {
	readonly issuer: string;
	readonly #server: Server;
	readonly #key: KeyPair;

	private constructor(server: Server, issuer: string, key: KeyPair) {
		this.#server = server;
		this.issuer = issuer;
		this.#key = key;
	}

	static async start(): Promise<StaticIssuer> {
		const key = await generateKeyPair('RS256', { extractable: true });
		const jwk = { ...(await exportJWK(key.publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' };
		let issuer = '';
		const server = createServer((request, response) => {
			response.setHeader('content-type', 'application/json');
			const isDiscovery = request.url?.endsWith('/.well-known/openid-configuration') === true;
			response.end(JSON.stringify(isDiscovery ? { issuer, jwks_uri: `${issuer}/certs` } : { keys: [jwk] }));
		});
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const address = server.address();
		assert(address !== null && typeof address === 'object', 'listening');
		issuer = `http://127.0.0.1:${address.port}/realms/static`;
		return new StaticIssuer(server, issuer, key);
	}

	/** A good access token but for `claims`, whose times are seconds from now. */
	token(claims: Readonly<Record<string, unknown>> = {}, shift: { readonly iat?: number; readonly exp?: number } = {}) {
		return new SignJWT(this.#payload(claims, shift))
			.setProtectedHeader({ alg: 'RS256', kid: 'k1', typ: 'at+jwt' })
			.sign(this.#key.privateKey);
	}

	/** What the provider sends when a session ended there (OpenID Connect Back-Channel Logout 1.0). */
	logoutToken(clientId: string, claims: Readonly<Record<string, unknown>>): Promise<string> {
		const events = { 'http://schemas.openid.net/event/backchannel-logout': {} };
		return new SignJWT(this.#payload({ aud: clientId, events, ...claims }))
			.setProtectedHeader({ alg: 'RS256', kid: 'k1', typ: 'logout+jwt' })
			.sign(this.#key.privateKey);
	}

	/** Without a signature, as `alg: none` has it. */
	unsigned(): string {
		const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
		return `${part({ alg: 'none', typ: 'at+jwt' })}.${part(this.#payload())}.`;
	}

	/** Signed as if the public key were a shared secret. */
	async confused(): Promise<string> {
		const secret = new TextEncoder().encode(await exportSPKI(this.#key.publicKey));
		return await new SignJWT(this.#payload())
			.setProtectedHeader({ alg: 'HS256', kid: 'k1', typ: 'at+jwt' })
			.sign(secret);
	}

	#payload(
		claims: Readonly<Record<string, unknown>> = {},
		{ iat = 0, exp = 300 }: { readonly iat?: number; readonly exp?: number } = {},
	): Record<string, unknown> {
		const nowS = Math.floor(systemClock.now() / 1000);
		return {
			...{ iss: this.issuer, aud: 'gpuaas', azp: 'gpuaas-cli', sub: 'mallory', jti: 'token-1' },
			...{ iat: nowS + iat, exp: nowS + exp, auth_time: nowS + iat },
			...claims,
		};
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#server.closeAllConnections();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}
