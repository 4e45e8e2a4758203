import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeContexts } from '../contexts.ts';
import { dispatch } from '../dispatch.ts';
import { testIo } from '../test-io.ts';
import { clockFinding } from './clock.ts';
import { bad, type Finding, findingsText, ok } from './finding.ts';

async function listening(): Promise<{ port: number } & AsyncDisposable> {
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	const close = () => new Promise<void>((resolve) => void server.close(() => resolve()));
	return { port: (server.address() as AddressInfo).port, [Symbol.asyncDispose]: close };
}

async function freePort(): Promise<number> {
	await using taken = await listening();
	return taken.port;
}

/** An address at which nobody listens, nor will while this is held: whoever has the port at one has it at all. */
async function silence(): Promise<{ readonly host: string } & AsyncDisposable> {
	const taken = await listening();
	return { host: `127.0.0.2:${taken.port}`, [Symbol.asyncDispose]: () => taken[Symbol.asyncDispose]() };
}

/** `doctor` in a world of its own: a data folder, and a configuration folder with a context for `address`. */
async function diagnose(address: string, ports: object, spoil?: (config: string) => void) {
	const data = mkdtempSync(join(tmpdir(), 'gpuaas-doctor-'));
	const config = join(data, 'config');
	writeFileSync(join(data, 'ports.json'), JSON.stringify(ports));
	const env = { GPUAAS_CONFIG_DIR: config };
	await writeContexts({ env }, { current: 'local', contexts: { local: { address, caPem: '', key: 'k' } } });
	spoil?.(config);
	const io = testIo(env);
	const code = await dispatch(['doctor', '--data', data, '--json'], io);
	const { ok, findings } = JSON.parse(io.out()) as { ok: boolean; findings: Finding[] };
	return { code, ok, of: (check: string) => findings.find((finding) => finding.check === check) };
}

describe('doctor', () => {
	it('says of a folder that was named and is not there that it is not there', async () => {
		const io = testIo({ GPUAAS_CONFIG_DIR: mkdtempSync(join(tmpdir(), 'gpuaas-doctor-')) });
		await dispatch(['doctor', '--data', '/nowhere/gpuaas', '--json'], io);
		const { findings } = JSON.parse(io.out()) as { findings: Finding[] };
		expect(findings).toContainEqual(
			expect.objectContaining({ check: 'data', result: 'warn', finding: "/nowhere/gpuaas isn't there" }),
		);
	});

	it('tells whoever knows no control plane how to get one, also when they knew one before', async () => {
		const config = mkdtempSync(join(tmpdir(), 'gpuaas-doctor-'));
		for (const forget of [false, true]) {
			if (forget) await writeContexts({ env: { GPUAAS_CONFIG_DIR: config } }, { current: '', contexts: {} });
			const io = testIo({ GPUAAS_CONFIG_DIR: config });
			await dispatch(['doctor', '--json'], io);
			const { findings } = JSON.parse(io.out()) as { findings: Finding[] };
			expect(findings.find(({ check }) => check === 'context')).toMatchObject({
				result: 'warn',
				advice: 'start one with gpuaas up, or gpuaas login',
			});
		}
	});

	it('stands in columns, however long the name of a check is', () => {
		const findings = [ok('a', 'one'), bad('server isolation', 'fail', 'two', 'three')];
		expect(findingsText(testIo(), findings)).toBe(
			['ok    a                 one', 'fail  server isolation  two', '                        do: three', ''].join(
				'\n',
			),
		);
	});

	it('finds a port that another program took, and says what to do; a free one is well', async () => {
		await using other = await listening();
		const found = await diagnose('https://127.0.0.1:1', { api: other.port, ops: await freePort() });
		expect(found).toMatchObject({ code: 1, ok: false });
		expect(found.of('port api')).toMatchObject({
			result: 'fail',
			finding: `${other.port} is in use by another program`,
			advice: 'stop it, or start with --api-port',
		});
		expect(found.of('port ops')).toMatchObject({ result: 'ok' });
	});

	it('says of a login that has ended that it has ended, and nothing of a network', async () => {
		const config = mkdtempSync(join(tmpdir(), 'gpuaas-doctor-'));
		const login = { issuer: 'https://id.example', clientId: 'cli', accessToken: 'a', expiresAtMs: 1, refreshToken: '' };
		const old = { address: 'https://127.0.0.1:1', caPem: '', key: '', login };
		await writeContexts({ env: { GPUAAS_CONFIG_DIR: config } }, { current: 'old', contexts: { old } });
		const io = testIo({ GPUAAS_CONFIG_DIR: config });
		expect(await dispatch(['whoami'], io)).toBe(1);
		expect(io.err()).toBe('gpuaas: the login of this context has ended; log in again with: gpuaas login\n');
	});

	it('gives a call that nobody heard no correlation id to look for', async () => {
		await using nobody = await silence();
		const config = mkdtempSync(join(tmpdir(), 'gpuaas-doctor-'));
		const local = { address: `https://${nobody.host}`, caPem: '', key: 'k' };
		await writeContexts({ env: { GPUAAS_CONFIG_DIR: config } }, { current: 'local', contexts: { local } });
		const io = testIo({ GPUAAS_CONFIG_DIR: config });
		expect(await dispatch(['whoami'], io)).toBe(1);
		expect(io.err()).toMatch(/^gpuaas: https:.* can't be reached .*; is the control plane running\? .*\n$/);
		expect(io.err()).not.toContain('correlation');
	});

	it('finds a server that does not answer, and says how one is started', async () => {
		await using nobody = await silence();
		const found = await diagnose(`https://${nobody.host}`, {});
		expect(found.code).toBe(1);
		expect(found.of('server')).toMatchObject({
			result: 'fail',
			finding: `https://${nobody.host} can't be reached (connect ECONNREFUSED ${nobody.host})`,
			advice: expect.stringContaining('gpuaas up'),
		});
		expect(found.of('context')).toMatchObject({ result: 'ok' });
	});

	it('finds keys that others of this machine can read, and says that they are spent', async () => {
		const found = await diagnose('https://127.0.0.1:1', {}, (config) =>
			chmodSync(join(config, 'contexts.json'), 0o644),
		);
		expect(found.code).toBe(1);
		expect(found.of('context')).toMatchObject({
			result: 'fail',
			finding: expect.stringContaining('can be read by others'),
			advice: expect.stringMatching(/^chmod 600 .*contexts\.json, and replace the key$/),
		});
	});

	it('says for a wrong --enroll how it is written', async () => {
		const io = testIo({ GPUAAS_CONFIG_DIR: mkdtempSync(join(tmpdir(), 'gpuaas-doctor-')) });
		const context = { address: 'https://127.0.0.1:1', caPem: '', key: 'k' };
		await writeContexts(io, { current: 'local', contexts: { local: context } });
		expect(await dispatch(['doctor', '--enroll', 'nowhere'], io)).toBe(2);
		expect(io.err()).toContain('is not HOST:PORT');
	});
});

describe('the clock of the server', () => {
	const atMs = Date.parse('2026-05-03T10:00:00Z');
	const header = (offsetMs: number) => new Date(atMs + offsetMs).toUTCString();

	it('is given as it is, with how exactly that is known', () => {
		expect(clockFinding(header(20_000), atMs, atMs + 1000)).toMatchObject([
			{ result: 'ok', finding: 'the server is 20.0 s ahead of this host (give or take 1.0 s)' },
		]);
		expect(clockFinding(header(-3000), atMs + 500, atMs + 500)).toMatchObject([
			{ result: 'ok', finding: 'the server is 3.0 s behind this host (give or take 0.5 s)' },
		]);
	});

	it('fails above 30 s, on either side', () => {
		const advice = expect.stringContaining('NTP');
		expect(clockFinding(header(-61_000), atMs, atMs)).toMatchObject([
			{ result: 'fail', finding: 'the server is 60.5 s behind this host (give or take 0.5 s)', advice },
		]);
		expect(clockFinding(header(31_000), atMs, atMs)).toMatchObject([{ result: 'fail', advice }]);
	});

	it('says nothing without a header that can be read', () => {
		expect(clockFinding(null, atMs, atMs)).toEqual([]);
		expect(clockFinding('yesterday', atMs, atMs)).toEqual([]);
	});
});
