import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { assertTyped } from './argument-bytes.ts';

const line = (...words: readonly (string | Buffer)[]) =>
	Buffer.concat(words.flatMap((word) => [Buffer.from(word), Buffer.of(0)]));
const HEAD = ['node', 'main.ts', 'run', '--'];
const BAD = Buffer.of(0xff, 0xfe);

describe('assertTyped', () => {
	it('names the argument that is not text', async () => {
		const typed = async () => line(...HEAD, 'printf', '%s', BAD);
		await expect(assertTyped(['printf', '%s', '\ufffd\ufffd'], [], typed)).rejects.toMatchObject({
			code: 'INVALID_ARGUMENT',
			message: expect.stringMatching(/^argument 2 of the program is not valid UTF-8: .*into a file/),
		});
	});

	it('says that it is an option', async () => {
		const typed = async () =>
			line('node', 'main.ts', 'run', '-e', Buffer.concat([Buffer.from('A='), BAD]), '--', 'env');
		await expect(assertTyped(['env'], ['A=\ufffd\ufffd'], typed)).rejects.toThrow('an option is not valid UTF-8');
	});

	it('lets a U+FFFD that was typed pass, and empty words', async () => {
		await assertTyped(['echo', '', '\ufffd'], [], async () => line(...HEAD, 'echo', '', '\ufffd'));
	});

	it('does not look when there is nothing to doubt, and refuses when it cannot look', async () => {
		const none = () => Promise.reject(new Error('no such file'));
		await assertTyped(['echo', 'é'], ['A=b'], none);
		await expect(assertTyped(['echo', '\ufffd'], [], none)).rejects.toThrow('may not be valid UTF-8');
	});
});

describe('gpuaas run', () => {
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bytes-'));
	afterAll(() => rmSync(folder, { recursive: true }));

	it('refuses bytes that are no text before it asks anybody', () => {
		const main = fileURLToPath(new URL('main.ts', import.meta.url));
		const script = `exec "$0" "$1" run -- printf %s "$(printf '\\377\\376')"`;
		const env = { ...process.env, GPUAAS_CONFIG_DIR: folder };
		const { status, stderr } = spawnSync('/bin/sh', ['-c', script, process.execPath, main], { env, encoding: 'utf8' });
		expect(stderr).toContain('argument 2 of the program is not valid UTF-8');
		expect(status).toBe(125);
	});
});
