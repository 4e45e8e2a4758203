import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
	authorizationCodeGrant,
	buildAuthorizationUrl,
	calculatePKCECodeChallenge,
	randomPKCECodeVerifier,
} from 'openid-client';
import { dispatch } from '../../cli/dispatch.ts';
import { openProvider, SCOPE } from '../../cli/oidc/provider.ts';
import type { StoredLogin } from '../../cli/oidc/stored-login.ts';
import { type TestIo, testIo } from '../../cli/test-io.ts';
import type { BrowserLogin } from '../../control-plane/app/login/browser-login.ts';
import { present } from '../../kit/assert.ts';
import { hex, systemRng, uuidv7 } from '../../kit/ids.ts';
import { bindingRow, principalRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';
import { Browser } from '../providers/browser.ts';
import { ACR_OTP, type IdentityProvider, type TestUser } from '../providers/identity-provider.ts';
import { ApiWorld, type ApiWorldOptions } from './api-world.ts';

/** A control plane that takes the logins of a real provider, and people with the command line and a browser each. */
export class LoginWorld implements AsyncDisposable {
	readonly provider: IdentityProvider;
	readonly api: ApiWorld;

	private constructor(provider: IdentityProvider, api: ApiWorld) {
		this.provider = provider;
		this.api = api;
	}

	static async start(
		provider: IdentityProvider,
		stepUpMaxAgeMs = 300_000,
		otherIssuers: readonly string[] = [],
		more: Pick<ApiWorldOptions, 'edge' | 'web' | 'openStore'> = {},
	): Promise<LoginWorld> {
		const api = await ApiWorld.start({
			...more,
			oidc: {
				issuers: [provider.issuer, ...otherIssuers],
				audience: 'gpuaas',
				clients: [provider.cliClient, provider.consoleClient.id],
				algorithms: ['ES256', 'RS256'],
				tokenLifetimeMaxMs: 600_000,
				clockSkewMaxMs: 30_000,
				expectedKeyIds: [],
				stepUpAcr: [ACR_OTP],
				stepUpMaxAgeMs,
			},
		});
		await insertScopes(api);
		await insertInviter(api);
		return new LoginWorld(provider, api);
	}

	/** The text of an invitation to a role. */
	async invite(email: string, role: string, scope: string, expiresInMs = 60_000, by = INVITER): Promise<string> {
		const token = hex(systemRng.bytes(16));
		const nowMs = this.api.deps.clock.now();
		await this.api.deps.store.unit((tx) =>
			tx.invitations.insert({
				id: uuidv7(nowMs, systemRng),
				organization: /^organizations\/([^/]+)/.exec(scope)?.[1] ?? '',
				email,
				tokenSha256: createHash('sha256').update(token).digest(),
				role,
				scope,
				createdAtMs: nowMs,
				createdBy: by,
				expiresAtMs: nowMs + expiresInMs,
				acceptedAtMs: null,
				acceptedBy: null,
				revokedAtMs: null,
				version: 1,
			}),
		);
		return token;
	}

	/** The control plane's own part that a reconciler wakes. */
	browserLogin(): BrowserLogin {
		return present(this.api.browser, 'browser sessions are turned on');
	}

	person(user: TestUser): Person {
		return new Person(this, user);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.api[Symbol.asyncDispose]();
	}
}

export interface CommandRun {
	readonly code: number;
	readonly out: string;
	readonly err: string;
}

/** The browser's answer before it reaches the command: a test may change it. */
export type Tamper = (answer: URL) => URL | Promise<URL>;

export class Person implements Disposable {
	readonly browser = new Browser();
	readonly user: TestUser;
	readonly #world: LoginWorld;
	readonly #folder = mkdtempSync(join(tmpdir(), 'gpuaas-login-'));

	constructor(world: LoginWorld, user: TestUser) {
		this.#world = world;
		this.user = user;
	}

	/** Runs a command; where it names an address to open, the person goes there and logs in. */
	async run(argv: readonly string[], tamper: Tamper = (answer) => answer): Promise<CommandRun> {
		const gaveUp = new AbortController();
		const plain = testIo({ GPUAAS_CONFIG_DIR: this.#folder, BROWSER: '/bin/true' });
		const io: TestIo = { ...plain, interrupt: gaveUp.signal };
		const ended = dispatch(argv, io);
		let isOver = false;
		const over = ended.finally(() => {
			isOver = true;
		});
		const visited = eventually('an address to open, or the end', () => isOver || addressIn(io));
		const address = await Promise.race([visited, over]);
		try {
			if (typeof address === 'string' && !isOver) await this.#visit(address, tamper);
		} catch (error) {
			gaveUp.abort();
			await ended;
			throw error;
		}
		return { code: await ended, out: io.out(), err: io.err() };
	}

	async json<T>(...argv: string[]): Promise<T> {
		const { code, out, err } = await this.run([...argv, '--json']);
		if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}: ${out}${err}`);
		return JSON.parse(out) as T;
	}

	login(...flags: string[]): Promise<CommandRun> {
		return this.loginWith(undefined, ...flags);
	}

	async loginWith(tamper: Tamper | undefined, ...flags: string[]): Promise<CommandRun> {
		const argv = ['login', this.#world.api.url, '--ca', this.#world.api.rootFile(), '--browser', ...flags];
		return await this.run(argv, tamper);
	}

	/** Logs in with an invitation. */
	async join(role: string, scope: string): Promise<CommandRun> {
		return await this.login('--invitation', this.file(await this.#world.invite(this.user.email, role, scope)));
	}

	file(text: string): string {
		const path = join(this.#folder, hex(systemRng.bytes(4)));
		writeFileSync(path, text);
		return path;
	}

	stored(): StoredLogin {
		const { current, contexts } = JSON.parse(readFileSync(this.#contextsFile, 'utf8'));
		return contexts[current].login as StoredLogin;
	}

	/** As if the access token's life was over. */
	age(): void {
		const file = JSON.parse(readFileSync(this.#contextsFile, 'utf8'));
		file.contexts[file.current].login.expiresAtMs = 0;
		writeFileSync(this.#contextsFile, JSON.stringify(file));
	}

	putRefreshToken(refreshToken: string): void {
		this.putLogin({ ...this.stored(), refreshToken });
	}

	putLogin(login: StoredLogin): void {
		const file = JSON.parse(readFileSync(this.#contextsFile, 'utf8'));
		file.contexts[file.current].login = login;
		writeFileSync(this.#contextsFile, JSON.stringify(file));
	}

	/** All tokens of a login at the provider, past the command. */
	async rawTokens(
		clientId = this.#world.provider.cliClient,
	): Promise<{ accessToken: string; idToken: string; refreshToken: string }> {
		const provider = await openProvider(this.#world.provider.issuer, clientId);
		const pkceCodeVerifier = randomPKCECodeVerifier();
		const address = buildAuthorizationUrl(provider, {
			redirect_uri: 'http://127.0.0.1:1/callback',
			scope: SCOPE,
			code_challenge: await calculatePKCECodeChallenge(pkceCodeVerifier),
			code_challenge_method: 'S256',
		});
		const answer = new URL(await this.browser.follow(address.href, this.user, isCallback));
		const tokens = await authorizationCodeGrant(provider, answer, { pkceCodeVerifier });
		return {
			accessToken: tokens.access_token,
			idToken: tokens.id_token ?? '',
			refreshToken: tokens.refresh_token ?? '',
		};
	}

	get #contextsFile(): string {
		return join(this.#folder, 'contexts.json');
	}

	async #visit(address: string, tamper: Tamper): Promise<void> {
		if (!address.includes('redirect_uri')) {
			await this.browser.followToPage(address, this.user);
			return;
		}
		const answer = await this.browser.follow(address, this.user, isCallback);
		await fetch((await tamper(new URL(answer))).href);
	}

	[Symbol.dispose](): void {
		rmSync(this.#folder, { recursive: true, force: true });
	}
}

/** The organization and the project that people are invited to. */
async function insertScopes({ deps: { store, clock } }: ApiWorld): Promise<void> {
	const base = { organization: 'acme', state: 'active', stateReason: '', deleteAtMs: null, createdBy: '', version: 1 };
	const at = { ...base, createdAtMs: clock.now() } as const;
	await store.unit(function* (tx) {
		if ((yield* tx.scopes.get('organizations/acme')) !== undefined) return;
		const acme = { name: 'organizations/acme', kind: 'organization', id: 'acme', parent: 'platform' } as const;
		const train = { name: 'organizations/acme/projects/train', kind: 'project', id: 'train' } as const;
		const rest = { displayName: 'acme', skeleton: 'acme' };
		yield* tx.scopes.insert({ ...at, ...acme, ...rest, state: 'active', path: '/acme/' });
		const below = { path: '/acme/p.train/', parent: acme.name, displayName: 'train', skeleton: 'train' };
		yield* tx.scopes.insert({ ...at, ...train, ...below, state: 'active' });
	});
}

/** Holds what it invites to; a program, so that it counts as nobody's owner. */
const INVITER = 'inviter';

async function insertInviter({ deps: { store } }: ApiWorld): Promise<void> {
	await store.unit(function* (tx) {
		yield* tx.identities.insertPrincipal(principalRow(INVITER, { kind: 'service_account' }));
		const roles = [
			['platform.operator', 'platform'],
			['tenant.owner', 'organizations/acme'],
			['tenant.owner', 'organizations/rival'],
		] as const;
		for (const [role, scope] of roles)
			yield* tx.access.insertBinding(bindingRow(`inviter-${role}-${scope}`, INVITER, { role, scope }));
	});
}

function isCallback(url: string): boolean {
	return /^http:\/\/127\.0\.0\.1:\d+\/callback\?/.test(url);
}

function addressIn(io: TestIo): string | undefined {
	return /(?:Open this address to log in:\n|or open )(\S+)\n/.exec(io.err())?.[1];
}
