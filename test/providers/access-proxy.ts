import { createServer } from 'node:http';
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose';
import { assert } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';

/** The keys and assertions of an access proxy, as Pomerium and Cloudflare Access document them; the proxy is not here. */
export class AccessProxy implements AsyncDisposable {
	readonly jwksUrl: string;
	readonly issuer = 'https://access.example';
	readonly audience = 'gpuaas.example';
	readonly #server: ReturnType<typeof createServer>;
	readonly #key: CryptoKey;
	readonly #stranger: CryptoKey;
	readonly #algorithm: string;

	private constructor(
		server: ReturnType<typeof createServer>,
		port: number,
		keys: { readonly own: CryptoKey; readonly stranger: CryptoKey; readonly algorithm: string },
	) {
		this.#server = server;
		this.#key = keys.own;
		this.#stranger = keys.stranger;
		this.#algorithm = keys.algorithm;
		this.jwksUrl = `http://127.0.0.1:${port}/keys.json`;
	}

	static async start(kind: 'pomerium' | 'cloudflare'): Promise<AccessProxy> {
		const algorithm = kind === 'pomerium' ? 'ES256' : 'RS256';
		const own = await generateKeyPair(algorithm);
		const stranger = await generateKeyPair(algorithm);
		const jwk = { ...(await exportJWK(own.publicKey)), kid: 'k1', alg: algorithm, use: 'sig' };
		const server = createServer((_request, response) => response.end(JSON.stringify({ keys: [jwk] })));
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const address = server.address();
		assert(address !== null && typeof address === 'object', 'listening');
		return new AccessProxy(server, address.port, { own: own.privateKey, stranger: stranger.privateKey, algorithm });
	}

	assertion(claims: Record<string, unknown>, by: 'own' | 'stranger' = 'own'): Promise<string> {
		const nowS = Math.floor(systemClock.now() / 1000);
		const payload = { iss: this.issuer, aud: this.audience, sub: 's', iat: nowS, exp: nowS + 300, ...claims };
		return new SignJWT(payload)
			.setProtectedHeader({ alg: this.#algorithm, kid: 'k1' })
			.sign(by === 'own' ? this.#key : this.#stranger);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const closed = new Promise((resolve) => this.#server.close(resolve));
		this.#server.closeAllConnections();
		await closed;
	}
}
