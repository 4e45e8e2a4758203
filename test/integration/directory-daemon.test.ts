import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { directorySettings, scimSettings } from '../../control-plane/settings.ts';
import { SqliteStore } from '../../control-plane/store/sqlite/store.ts';
import { systemClock } from '../../kit/clock.ts';
import { principalRow, userIdentityRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';
import { ScimServer } from '../providers/scim-server.ts';

/** The daemon with a directory in its configuration: it asks that directory; with half of one it doesn't start. */
const GPUAAS = join(import.meta.dirname, '..', '..', 'gpuaas');
const ISSUER = 'https://id.example';
const folder = mkdtempSync(join(tmpdir(), 'directory-daemon-'));
let server: ScimServer;
beforeAll(async () => {
	server = await ScimServer.start();
});
afterAll(async () => {
	await server?.[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

function configFile(name: string, oidc: readonly string[]): readonly string[] {
	const data = join(folder, name);
	mkdirSync(data, { mode: 0o700 });
	const ports = ['api', 'gateway', 'enroll', 'ops'].flatMap((section) => [`[${section}]`, 'port = 0']);
	const lines = ['[core]', `data = "${data}"`, ...ports, '[oidc]', `issuers = ["${ISSUER}"]`, ...oidc];
	const path = join(folder, `${name}.toml`);
	writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
	return ['control-plane', 'serve', '--config', path];
}

const { PATH = '', HOME = '' } = process.env;
const env = { PATH, HOME };

/** A person of the issuer, who was here before. */
async function addAda(name: string): Promise<void> {
	await using store = new SqliteStore({ at: { path: join(folder, name, 'control-plane.db') }, clock: systemClock });
	await store.unit(function* (tx) {
		yield* tx.identities.insertPrincipal(principalRow('ada'));
		yield* tx.identities.insertUserIdentity(userIdentityRow(ISSUER, 'sub-ada', 'ada'));
	});
}

const secret = (name: string, text: string) => {
	const path = join(folder, name);
	writeFileSync(path, text, { mode: 0o600 });
	return path;
};

test('asks the SCIM server that it was told of about its people, with the token, and logs that nowhere', async () => {
	const tokenFile = secret('token', `${ScimServer.token}\n`);
	const argv = configFile('scim', [`scim_url = "${server.url}"`, `scim_token_file = "${tokenFile}"`]);
	server.users.set('ada', { id: 'u-ada', externalId: 'sub-ada', userName: 'ada@example.org', active: true });
	await addAda('scim');
	const daemon = spawn(GPUAAS, argv, { env, stdio: ['ignore', 'pipe', 'pipe'] });
	let said = '';
	for (const stream of [daemon.stdout, daemon.stderr]) stream.on('data', (part: Buffer) => (said += part.toString()));
	const ended = new Promise<number | null>((resolve) => daemon.on('exit', resolve));
	try {
		await eventually('it asks about Ada', () => server.asked.some((path) => path.includes('sub-ada')));
	} finally {
		daemon.kill('SIGTERM');
	}
	expect(await ended, said).toBe(0);
	expect(said).not.toContain(ScimServer.token);
	expect(said).not.toContain('could not be asked');
});

describe('does not start', () => {
	const CASES: readonly (readonly [string, readonly string[], string])[] = [
		['scim_url without its token', [`scim_url = "https://scim.example/v2"`], '[oidc] scim_url needs scim_token_file'],
		['directory_client without its secret', ['directory_client = "gpuaas-directory"'], '[oidc] directory_client needs'],
	];
	test.each(CASES)('with %s', (name, oidc, message) => {
		const argv = configFile(name.split(' ')[0] ?? '', oidc);
		const { status, stdout, stderr } = spawnSync(GPUAAS, [...argv], { env, encoding: 'utf8', timeout: 60_000 });
		expect([status, `${stdout}${stderr}`]).toEqual([expect.any(Number), expect.stringContaining(message)]);
		expect(status).not.toBe(0);
	});
});

describe('is refused', () => {
	type Scim = Parameters<typeof scimSettings>[0]['oidc'];
	const scim = (more: object) => () =>
		scimSettings({
			oidc: { scimUrl: server.url, scimSubject: 'id', issuers: [ISSUER], ...more } as unknown as Scim & never,
		});
	const keycloak = (more: object) => () =>
		directorySettings({ oidc: { directoryClient: 'c', issuers: [ISSUER], ...more } as unknown as Scim & never });

	test('half of a directory, one of another issuer, and a secret that can’t be read', () => {
		const file = secret('other', 'text');
		expect(scim({ scimTokenFile: file })()).toMatchObject({ issuer: ISSUER, token: 'text' });
		expect(scim({ scimTokenFile: file, scimIssuer: 'https://other.example' })).toThrow(/one of the issuers/);
		expect(scim({ scimTokenFile: file, issuers: [] })).toThrow(/one of the issuers/);
		expect(scim({ scimTokenFile: secret('empty', '\n') })).toThrow(/needs scim_token_file/);
		expect(scim({ scimTokenFile: join(folder, 'none') })).toThrow(/can't be read/);
		const open = secret('open', 'text');
		chmodSync(open, 0o640);
		expect(scim({ scimTokenFile: open })).toThrow(/has mode 0640/);
		expect(keycloak({ directorySecretFile: open })).toThrow(/has mode 0640/);
		const realm = 'https://id.example/realms/gpuaas';
		expect(keycloak({ directorySecretFile: file, issuers: [realm] })()).toMatchObject({ clientSecret: 'text' });
		expect(keycloak({ directorySecretFile: file })).toThrow(/a realm of a Keycloak/);
	});
});
