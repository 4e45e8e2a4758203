import { execFile, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { assert } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { hex, systemRng } from '../../kit/ids.ts';
import { freePort } from '../free-port.ts';
import { tool } from '../tools.ts';
import type { IdentityProvider, TestUser } from './identity-provider.ts';
import { totp } from './totp.ts';

/**
 * The real Keycloak, with the realm that we give to operators (packaging/keycloak/realm.json) imported as they would.
 * The distribution comes from Maven once and is built once, into test/.cache; each start has its own folder, database
 * and free ports.
 */
const VERSION = '26.4.7';
const ROOT = join(import.meta.dirname, '../..');
const CACHE = join(ROOT, 'test/.cache');
export const REALM_FILE = join(ROOT, 'packaging/keycloak/realm.json');
const run = promisify(execFile);

/** The folder of the built distribution; made when it isn't there. Two at once each make their own, and one stays. */
async function distribution(): Promise<string> {
	const home = join(CACHE, `keycloak-${VERSION}`);
	if (existsSync(home)) return home;
	mkdirSync(CACHE, { recursive: true });
	const work = mkdtempSync(join(CACHE, 'keycloak-'));
	try {
		const artifact = `org.keycloak:keycloak-quarkus-dist:${VERSION}:zip`;
		const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy';
		const copy = () => run(tool('mvn'), ['-q', '-B', plugin, `-Dartifact=${artifact}`, `-DoutputDirectory=${work}`]);
		// What a broken transfer left, it goes on with.
		await copy().catch(copy);
		await run(tool('unzip'), ['-q', `keycloak-quarkus-dist-${VERSION}.zip`], { cwd: work });
		const built = join(work, `keycloak-${VERSION}`);
		await run(join(built, 'bin/kc.sh'), ['build', '--db=dev-file', '--health-enabled=true']);
		if (!existsSync(home)) renameSync(built, home);
		return home;
	} finally {
		rmSync(work, { recursive: true, force: true });
	}
}

export class Keycloak implements IdentityProvider {
	readonly name = 'Keycloak';
	readonly verifiesAddresses = true;
	readonly canLogOutEverywhere = true;
	readonly issuer: string;
	readonly cliClient = 'gpuaas-cli';
	readonly consoleClient: { readonly id: string; secret: string } = { id: 'gpuaas-console', secret: '' };
	readonly otherClient = 'other-app';
	readonly #base: string;
	readonly #folder: string;
	readonly #adminPassword = hex(systemRng.bytes(16));
	readonly #port: number;
	#server: ReturnType<typeof spawn> | undefined;
	#adminToken = { text: '', untilMs: 0 };

	private constructor(folder: string, port: number) {
		this.#folder = folder;
		this.#port = port;
		this.#base = `http://127.0.0.1:${port}`;
		this.issuer = `${this.#base}/realms/gpuaas`;
	}

	static async start(): Promise<Keycloak> {
		const home = await distribution();
		const folder = mkdtempSync(join(tmpdir(), 'keycloak-'));
		const keycloak = new Keycloak(folder, await freePort());
		try {
			// The server writes into its own folder; the jars are only read.
			for (const part of ['bin', 'conf', 'providers', 'themes', 'version.txt'])
				cpSync(join(home, part), join(folder, part), { recursive: true });
			await run('ln', ['-s', join(home, 'lib'), join(folder, 'lib')]);
			mkdirSync(join(folder, 'data/import'), { recursive: true });
			cpSync(REALM_FILE, join(folder, 'data/import/realm.json'));
			await keycloak.#boot(await freePort());
			await keycloak.#prepare();
		} catch (error) {
			await keycloak[Symbol.asyncDispose]();
			throw error;
		}
		return keycloak;
	}

	async #boot(managementPort: number): Promise<void> {
		const flags = ['--optimized', '--import-realm', '--http-enabled=true', `--hostname=${this.#base}`];
		const places = ['--http-host=127.0.0.1', `--http-port=${this.#port}`, `--http-management-port=${managementPort}`];
		const server = spawn(join(this.#folder, 'bin/kc.sh'), ['start', ...flags, ...places], {
			env: {
				PATH: process.env.PATH,
				JAVA_OPTS_APPEND: '-XX:TieredStopAtLevel=1 -Xmx512m',
				KC_BOOTSTRAP_ADMIN_USERNAME: 'admin',
				KC_BOOTSTRAP_ADMIN_PASSWORD: this.#adminPassword,
			},
			stdio: ['ignore', 'pipe', 'inherit'],
			detached: true,
		});
		this.#server = server;
		let log = '';
		await new Promise<void>((resolve, reject) => {
			server.stdout?.on('data', (chunk: Buffer) => {
				if (log.length < 262_144) log += chunk.toString();
				if (/started in [0-9.]+s/.test(log)) resolve();
			});
			server.once('exit', (code) => reject(new Error(`Keycloak ended with ${code}:\n${log.slice(-4000)}`)));
			server.once('error', reject);
		});
	}

	/** What a test needs beyond the realm that operators import. */
	async #prepare(): Promise<void> {
		const [client] = await this.admin<{ id: string }[]>('GET', 'clients?clientId=gpuaas-console');
		const secret = await this.admin<{ value: string }>('POST', `clients/${client?.id}/client-secret`);
		this.consoleClient.secret = secret.value;
		await this.admin('POST', 'clients', {
			clientId: this.otherClient,
			publicClient: true,
			standardFlowEnabled: true,
			redirectUris: ['http://127.0.0.1/callback'],
			attributes: { 'access.token.header.type.rfc9068': 'true' },
		});
	}

	/** A call of the admin API, below this realm. */
	async admin<T>(method: string, path: string, body?: unknown): Promise<T> {
		if (this.#adminToken.untilMs < systemClock.now()) {
			const grant = {
				grant_type: 'password',
				client_id: 'admin-cli',
				username: 'admin',
				password: this.#adminPassword,
			};
			const url = `${this.#base}/realms/master/protocol/openid-connect/token`;
			const response = await fetch(url, { method: 'POST', body: new URLSearchParams(grant) });
			const { access_token } = (await response.json()) as { access_token: string };
			this.#adminToken = { text: access_token, untilMs: systemClock.now() + 30_000 };
		}
		const response = await fetch(`${this.#base}/admin/realms/gpuaas/${path}`.replace(/\/$/, ''), {
			method,
			headers: { authorization: `Bearer ${this.#adminToken.text}`, 'content-type': 'application/json' },
			...(body === undefined ? {} : { body: JSON.stringify(body) }),
		});
		const text = await response.text();
		assert(response.ok, `${method} ${path}: HTTP ${response.status} ${text}`);
		return (text === '' ? undefined : JSON.parse(text)) as T;
	}

	async addUser(name: string, { emailVerified = true } = {}): Promise<TestUser> {
		const password = hex(systemRng.bytes(12));
		const secret = hex(systemRng.bytes(10));
		const email = `${name}@example.com`;
		await this.admin('POST', 'partialImport', {
			ifResourceExists: 'FAIL',
			users: [
				{
					username: name,
					email,
					emailVerified,
					enabled: true,
					firstName: name,
					lastName: 'Tester',
					credentials: [
						{ type: 'password', value: password },
						{
							type: 'otp',
							secretData: JSON.stringify({ value: secret }),
							credentialData: JSON.stringify({
								subType: 'totp',
								digits: 6,
								counter: 0,
								period: 30,
								algorithm: 'HmacSHA1',
							}),
						},
					],
				},
			],
		});
		const [user] = await this.admin<{ id: string }[]>('GET', `users?username=${name}&exact=true`);
		assert(user !== undefined, 'the user is there');
		const otp = () => totp(Buffer.from(secret), systemClock.now());
		return { username: name, password, otp, subject: user.id, email };
	}

	/** The secret of the client that may ask who is still there. */
	async directorySecret(): Promise<string> {
		const [client] = await this.admin<{ id: string }[]>('GET', 'clients?clientId=gpuaas-directory');
		return (await this.admin<{ value: string }>('POST', `clients/${client?.id}/client-secret`)).value;
	}

	async removeUser(user: TestUser): Promise<void> {
		await this.admin('DELETE', `users/${user.subject}`);
	}

	async disableUser(user: TestUser): Promise<void> {
		await this.admin('PUT', `users/${user.subject}`, { enabled: false });
	}

	async logOutEverywhere(user: TestUser): Promise<void> {
		await this.admin('POST', `users/${user.subject}/logout`);
	}

	async rotateKeys({ withdraw }: { readonly withdraw: boolean }): Promise<void> {
		const type = 'org.keycloak.keys.KeyProvider';
		const old = await this.admin<{ id: string; name: string; providerId: string }[]>('GET', `components?type=${type}`);
		await this.admin('POST', 'components', {
			name: `ecdsa-${hex(systemRng.bytes(4))}`,
			providerId: 'ecdsa-generated',
			providerType: type,
			config: {
				priority: [String(200 + old.length)],
				ecdsaEllipticCurveKey: ['P-256'],
				enabled: ['true'],
				active: ['true'],
			},
		});
		if (!withdraw) return;
		for (const { id, providerId } of old)
			if (providerId === 'ecdsa-generated') await this.admin('DELETE', `components/${id}`);
	}

	async setConsole(redirectUri: string, backchannelLogoutUri: string): Promise<void> {
		const [client] = await this.admin<Record<string, unknown>[]>('GET', 'clients?clientId=gpuaas-console');
		assert(client !== undefined, 'the realm has the console client');
		const attributes = { ...(client.attributes as object), 'backchannel.logout.url': backchannelLogoutUri };
		await this.admin('PUT', `clients/${client.id}`, { ...client, redirectUris: [redirectUri], attributes });
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const server = this.#server;
		this.#server = undefined;
		if (server?.pid !== undefined && server.exitCode === null) {
			const ended = new Promise((resolve) => server.once('exit', resolve));
			// The script starts java as its child: the whole group is ours.
			process.kill(-server.pid, 'SIGKILL');
			await ended;
		}
		rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
	}
}

export function committedRealm(): Record<string, unknown> {
	return JSON.parse(readFileSync(REALM_FILE, 'utf8')) as Record<string, unknown>;
}
