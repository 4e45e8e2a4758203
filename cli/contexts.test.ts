import { chmodSync, mkdtempSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pickContext, putContext, readContexts } from './contexts.ts';

const context = { address: 'https://127.0.0.1:1', caPem: 'pem', key: 'k' };

function home() {
	const dir = mkdtempSync(join(tmpdir(), 'gpuaas-ctx-'));
	return { dir, io: { env: { GPUAAS_CONFIG_DIR: join(dir, 'new') } } };
}

describe('contexts', () => {
	it('stores keys for their owner alone', async () => {
		const { dir, io } = home();
		await putContext(io, 'a', context);
		expect(statSync(join(dir, 'new', 'contexts.json')).mode & 0o777).toBe(0o600);
		expect(statSync(join(dir, 'new')).mode & 0o777).toBe(0o700);
	});

	it('narrows a file that was opened to others when it writes', async () => {
		const { dir, io } = home();
		await putContext(io, 'a', context);
		chmodSync(join(dir, 'new', 'contexts.json'), 0o644);
		// And one that a command which was killed left half written.
		writeFileSync(join(dir, 'new', `contexts.json.${process.pid}.tmp`), '{', { mode: 0o644 });
		await putContext(io, 'b', context);
		expect(statSync(join(dir, 'new', 'contexts.json')).mode & 0o777).toBe(0o600);
	});

	it('picks the named one, then the environment, then the current one', async () => {
		const { io } = home();
		await putContext(io, 'a', context);
		await putContext(io, 'b', { ...context, address: 'https://b:1' });
		expect((await pickContext(io, undefined)).name).toBe('b');
		expect((await pickContext(io, 'a')).name).toBe('a');
		expect((await pickContext({ env: { ...io.env, GPUAAS_CONTEXT: 'a' } }, undefined)).name).toBe('a');
		await expect(pickContext(io, 'c')).rejects.toThrow('known: a, b');
	});

	it('says what to do with nothing and with a damaged file', async () => {
		const { dir, io } = home();
		await expect(pickContext(io, undefined)).rejects.toThrow('gpuaas up');
		await putContext(io, 'a', context);
		writeFileSync(join(dir, 'new', 'contexts.json'), '{"current":');
		await expect(readContexts(io)).rejects.toThrow('damaged');
	});
});
