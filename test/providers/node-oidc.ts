import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import Provider, { type Configuration, interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider';
import { assert, present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { hex, systemRng } from '../../kit/ids.ts';
import { ACR_OTP, ACR_PASSWORD, type IdentityProvider, type TestUser } from './identity-provider.ts';
import { totp } from './totp.ts';

/**
 * A second provider, unrelated to the first: node-oidc-provider, which is certified. The pages where people log in are
 * ours (it ships none); protocol, tokens, sessions and logout are its own.
 */
interface Account extends TestUser {
	readonly secret: Buffer;
	readonly emailVerified: boolean;
	isDisabled: boolean;
	/** Also the code of the 30 s before: it may have been read at their end. */
	takes(code: string): boolean;
}

export class NodeOidc implements IdentityProvider {
	readonly name = 'node-oidc-provider';
	readonly verifiesAddresses = false;
	readonly canLogOutEverywhere = false;
	readonly cliClient = 'gpuaas-cli';
	readonly consoleClient = { id: 'gpuaas-console', secret: hex(systemRng.bytes(16)) };
	readonly otherClient = 'other-app';
	readonly issuer: string;
	readonly #server: ReturnType<typeof createServer>;
	readonly #accounts = new Map<string, Account>();
	readonly #keys: Record<string, unknown>[] = [];
	#handle: (request: IncomingMessage, response: ServerResponse) => void = () => {};
	#console = { redirectUri: 'https://gpuaas.example/auth/callback', logoutUri: 'https://gpuaas.example/auth/logout' };

	private constructor(server: ReturnType<typeof createServer>, port: number) {
		this.#server = server;
		this.issuer = `http://127.0.0.1:${port}`;
	}

	static async start(): Promise<NodeOidc> {
		const server = createServer();
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const address = server.address();
		assert(address !== null && typeof address === 'object', 'listening');
		const provider = new NodeOidc(server, address.port);
		server.on('request', (request, response) => provider.#handle(request, response));
		await provider.rotateKeys({ withdraw: false });
		return provider;
	}

	async addUser(name: string, { emailVerified = true, email = `${name}@example.com` } = {}): Promise<TestUser> {
		const secret = Buffer.from(systemRng.bytes(20));
		const account: Account = {
			username: name,
			password: hex(systemRng.bytes(12)),
			subject: `subject-of-${name}`,
			email,
			secret,
			emailVerified,
			isDisabled: false,
			otp: () => totp(secret, systemClock.now()),
			takes: (code) => [0, 30_000].some((ageMs) => code === totp(secret, systemClock.now() - ageMs)),
		};
		this.#accounts.set(account.subject, account);
		return account;
	}

	async disableUser({ subject }: TestUser): Promise<void> {
		present(this.#accounts.get(subject), 'the user').isDisabled = true;
	}

	async rotateKeys({ withdraw }: { readonly withdraw: boolean }): Promise<void> {
		const { privateKey } = await generateKeyPair('ES256', { extractable: true });
		if (withdraw) this.#keys.length = 0;
		this.#keys.unshift({ ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid: hex(systemRng.bytes(8)) });
		this.#open();
	}

	async setConsole(redirectUri: string, logoutUri: string): Promise<void> {
		this.#console = { redirectUri, logoutUri };
		this.#open();
	}

	async logOutEverywhere(): Promise<void> {
		throw new Error('this provider ends sessions by its own logout page');
	}

	/** A provider with the keys and clients of now; sessions and grants are in its store, which stays. */
	#open(): void {
		const provider = new Provider(this.issuer, this.#configuration());
		const callback = provider.callback();
		this.#handle = (request, response) => {
			if (request.url?.startsWith('/interaction/')) {
				this.#interact(provider, request, response).catch((error: unknown) => {
					response.statusCode = 500;
					response.end(String(error));
				});
			} else callback(request, response);
		};
	}

	#configuration(): Configuration {
		const native = {
			application_type: 'native' as const,
			token_endpoint_auth_method: 'none' as const,
			redirect_uris: ['http://127.0.0.1/callback'],
			grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
			id_token_signed_response_alg: 'ES256' as const,
		};
		return {
			jwks: { keys: this.#keys as never },
			clients: [
				{ ...native, client_id: this.cliClient },
				{ ...native, client_id: this.otherClient },
				{
					client_id: this.consoleClient.id,
					client_secret: this.consoleClient.secret,
					redirect_uris: [this.#console.redirectUri],
					grant_types: ['authorization_code', 'refresh_token'],
					id_token_signed_response_alg: 'ES256',
					backchannel_logout_uri: this.#console.logoutUri,
					backchannel_logout_session_required: true,
				},
			],
			cookies: { keys: ['test'] },
			acrValues: [ACR_PASSWORD, ACR_OTP],
			scopes: ['openid', 'email', 'profile', 'offline_access'],
			claims: { openid: ['sub', 'auth_time'], email: ['email', 'email_verified'], profile: ['name'] },
			pkce: { required: () => true },
			ttl: { AccessToken: 300, Session: 36_000, Grant: 36_000, RefreshToken: 36_000, IdToken: 300, Interaction: 600 },
			rotateRefreshToken: true,
			issueRefreshToken: async (_ctx, client) => client.grantTypes?.includes('refresh_token') ?? false,
			features: {
				devInteractions: { enabled: false },
				deviceFlow: { enabled: true },
				revocation: { enabled: true },
				backchannelLogout: { enabled: true },
				rpInitiatedLogout: { enabled: true },
				resourceIndicators: {
					enabled: true,
					defaultResource: () => 'urn:gpuaas',
					useGrantedResource: () => true,
					getResourceServerInfo: (_ctx, _resource, client) => ({
						scope: 'openid email profile',
						audience: client.clientId === this.otherClient ? 'something-else' : 'gpuaas',
						accessTokenFormat: 'jwt',
						accessTokenTTL: 300,
						jwt: { sign: { alg: 'ES256' } },
					}),
				},
			},
			extraTokenClaims: (ctx) => this.#claims(ctx),
			findAccount: async (_ctx, sub) => {
				const account = this.#accounts.get(sub);
				if (account === undefined || account.isDisabled) return undefined;
				const { email, emailVerified, username } = account;
				return { accountId: sub, claims: () => ({ sub, email, email_verified: emailVerified, name: username }) };
			},
			interactions: { policy: stepUpPolicy(), url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
			loadExistingGrant: async (ctx) => {
				const { client, session, provider } = ctx.oidc;
				const grant = new provider.Grant({ clientId: client?.clientId ?? '', accountId: session?.accountId ?? '' });
				grant.addOIDCScope('openid email profile');
				grant.addResourceScope('urn:gpuaas', 'openid email profile');
				await grant.save();
				return grant;
			},
		};
	}

	/** RFC 9068 section 2.2.3 and RFC 9470 section 6: what the person proved, and when, is in the access token. */
	#claims(ctx: KoaContextWithOIDC): Record<string, unknown> {
		const { AuthorizationCode, RefreshToken, DeviceCode } = ctx.oidc.entities;
		const source = AuthorizationCode ?? RefreshToken ?? DeviceCode;
		const account = this.#accounts.get(source?.accountId ?? '');
		if (source === undefined || account === undefined) return {};
		const { acr, amr, authTime, sid } = source;
		return {
			acr,
			amr,
			auth_time: authTime,
			sid,
			email: account.email,
			email_verified: account.emailVerified,
			name: account.username,
		};
	}

	async #interact(provider: Provider, request: IncomingMessage, response: ServerResponse): Promise<void> {
		const { params, session, prompt } = await provider.interactionDetails(request, response);
		const form = request.method === 'POST' ? new URLSearchParams(await bodyOf(request)) : undefined;
		if (prompt.name === 'consent') {
			// A native client can be imitated by any program on the machine: this library asks each time.
			if (form?.has('accept')) return await provider.interactionFinished(request, response, { consent: {} });
			page(response, request.url, '<button type="submit" name="accept" value="yes">Yes</button>');
			return;
		}
		const wantsOtp = String(params.acr_values ?? '').includes(ACR_OTP);
		const account =
			[...this.#accounts.values()].find(({ username }) => username === form?.get('username')) ??
			this.#accounts.get(session?.accountId ?? '');
		const code = form?.get('otp');
		const isKnown = account !== undefined && !account.isDisabled;
		const passed = form?.has('password') ? form.get('password') === account?.password : false;
		if (isKnown && wantsOtp && code !== null && code !== undefined && account.takes(code)) {
			const login = { accountId: account.subject, acr: ACR_OTP, amr: ['pwd', 'otp'], remember: true };
			return await provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
		}
		if (isKnown && passed && !wantsOtp) {
			const login = { accountId: account.subject, acr: ACR_PASSWORD, amr: ['pwd'], remember: true };
			return await provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
		}
		const known = isKnown && passed ? account.username : '';
		const fields =
			wantsOtp && (known !== '' || session !== undefined)
				? `<input name="otp" type="text"><input type="hidden" name="username" value="${known || account?.username}">`
				: '<input name="username" type="text"><input name="password" type="password">';
		page(response, request.url, `${fields}<input type="submit" value="Go">`);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const closed = new Promise((resolve) => this.#server.close(resolve));
		this.#server.closeAllConnections();
		await closed;
	}
}

function page(response: ServerResponse, action: string | undefined, fields: string): void {
	response.setHeader('content-type', 'text/html');
	response.end(`<form method="post" action="${action}">${fields}</form>`);
}

/** `acr_values` is a wish that this library leaves to its user: a session that is weaker logs in again. */
function stepUpPolicy() {
	const policy = interactionPolicy.base();
	const check = new interactionPolicy.Check('acr_values', 'a stronger login is needed', ({ oidc }) => {
		const wanted = String(oidc.params?.acr_values ?? '')
			.split(' ')
			.filter((acr) => acr !== '');
		const has = oidc.session?.acr ?? '';
		return wanted.length > 0 && !wanted.includes(has);
	});
	policy.get('login')?.checks.add(check);
	return policy;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
	let text = '';
	for await (const chunk of request) text += String(chunk);
	return text;
}
