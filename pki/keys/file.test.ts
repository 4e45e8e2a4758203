import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { KeyFolder } from './file.ts';
import { loadNodeKey } from './node-key.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';
import { signerContract } from './signer-contract.ts';

const base = mkdtempSync(join(tmpdir(), 'gpuaas-keys-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let count = 0;
const freshFolder = () => {
	count += 1;
	return join(base, `keys-${count}`);
};

for (const algorithm of ['ed25519', 'ecdsa-p256-sha256', 'ecdsa-p384-sha384'] as const) {
	const folder = join(base, `contract-${algorithm}`);
	signerContract(
		`file, ${algorithm}`,
		async () => new KeyFolder(folder, systemRng).loadOrCreate('key', algorithm),
		async () => new KeyFolder(folder, systemRng).loadOrCreate('key', algorithm),
	);
}

describe('key folder', () => {
	let folder = '';
	beforeEach(() => {
		folder = freshFolder();
	});
	const open = () => new KeyFolder(folder, systemRng);

	it('keeps one PKCS#8 PEM a key, 0600 in a folder 0700, and no temporary file', () => {
		const before = process.umask(0o777);
		try {
			open().create('issuing-ca', 'ecdsa-p256-sha256');
		} finally {
			process.umask(before);
		}
		expect(statSync(folder).mode & 0o777).toBe(0o700);
		expect(statSync(join(folder, 'issuing-ca.pem')).mode & 0o777).toBe(0o600);
		expect(readdirSync(folder)).toEqual(['issuing-ca.pem']);
		const text = execFileSync('openssl', ['pkey', '-in', join(folder, 'issuing-ca.pem'), '-noout', '-text']).toString();
		expect(text).toContain('NIST CURVE: P-256');
	});

	it('has no key before it was made', () => {
		expect(open().load('root')).toBeUndefined();
	});

	it('never replaces a key by creating it again', () => {
		const first = open().create('root', 'ed25519');
		expect(() => open().create('root', 'ed25519')).toThrow(expect.objectContaining({ reason: 'ALREADY_EXISTS' }));
		expect(open().load('root')?.keyId).toBe(first.keyId);
		expect(readdirSync(folder)).toEqual(['root.pem']);
	});

	it.each([0o640, 0o604, 0o700])('refuses a key file with mode 0%o, and says what to do', (mode) => {
		open().create('root', 'ed25519');
		chmodSync(join(folder, 'root.pem'), mode);
		expect(() => open().load('root')).toThrow(/has mode 0\d+.*chmod 0600/);
	});

	it('refuses a folder that others may enter', () => {
		open().create('root', 'ed25519');
		chmodSync(folder, 0o750);
		expect(open).toThrow(expect.objectContaining({ reason: 'KEY_FILE_UNSAFE' }));
		expect(() => readPrivateFile(join(folder, 'root.pem'))).toThrow('has mode 0750');
	});

	it('follows no symbolic link', () => {
		open().create('root', 'ed25519');
		symlinkSync(join(folder, 'root.pem'), join(folder, 'audit.pem'));
		expect(() => open().load('audit')).toThrow(expect.objectContaining({ reason: 'KEY_FILE_UNSAFE' }));
	});

	it('refuses a damaged file and a key of another algorithm', () => {
		open().create('root', 'ed25519');
		writeFileSync(join(folder, 'torn.pem'), '-----BEGIN PRIVATE KEY-----\nMC4C', { mode: 0o600 });
		expect(() => open().load('torn')).toThrow(expect.objectContaining({ reason: 'KEY_FILE_INVALID' }));
		expect(() => open().loadOrCreate('root', 'ecdsa-p384-sha384')).toThrow(/is an ed25519 key/);
	});

	it('refuses names that leave the folder', () => {
		expect(() => open().load('../root')).toThrow('key name');
	});
});

describe('private file', () => {
	it('replaces atomically and leaves nothing beside it', () => {
		const folder = freshFolder();
		new KeyFolder(folder, systemRng);
		const path = join(folder, 'identity.json');
		writePrivateFile(path, Buffer.from('one'), 'create', systemRng);
		writePrivateFile(path, Buffer.from('two'), 'replace', systemRng);
		expect(readPrivateFile(path)?.toString()).toBe('two');
		expect(readdirSync(folder)).toEqual(['identity.json']);
	});
});

describe('what a killed writer left behind', () => {
	it('is removed with the next write, and what another writes now is not', () => {
		const folder = freshFolder();
		new KeyFolder(folder, systemRng);
		const path = join(folder, 'secret');
		const left = '.0123456789abcdef.tmp';
		const fresh = '.fedcba9876543210.tmp';
		const other = '.own.tmp';
		const hourAgo = statSync(folder).mtimeMs / 1000 - 3700;
		for (const name of [left, fresh, other]) writeFileSync(join(folder, name), 'key', { mode: 0o600 });
		for (const name of [left, other]) utimesSync(join(folder, name), hourAgo, hourAgo);
		writePrivateFile(path, Buffer.from('new'), 'create', systemRng);
		expect(readdirSync(folder).toSorted()).toEqual([fresh, other, 'secret'].toSorted());
	});
});

describe('node key', () => {
	it('says what to do about a stored key that is none', () => {
		expect(() => loadNodeKey('nonsense')).toThrow(/enroll this host again/);
	});
});
