import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { generateNodeKey, loadNodeKey } from '../keys/node-key.ts';
import { generateSigner } from '../keys/signer.ts';
import { createCsr, verifyCsr } from './csr.ts';

const folder = mkdtempSync(join(tmpdir(), 'gpuaas-csr-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

/** A request made by OpenSSL, as an agent of somebody else's making would send it. */
function opensslCsr(...args: string[]): Uint8Array {
	const output = ['-keyout', at('other.key'), '-nodes', '-outform', 'der', '-out', at('other.der')];
	execFileSync('openssl', ['req', '-new', ...args, ...output], { stdio: 'ignore' });
	return readFileSync(at('other.der'));
}

const P256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];

describe('createCsr', () => {
	it('makes requests that OpenSSL verifies, without a subject or attributes', () => {
		const { privateKeyPem, signer } = generateNodeKey();
		expect(loadNodeKey(privateKeyPem).signer.keyId).toBe(signer.keyId);
		writeFileSync(at('node.der'), createCsr(signer));
		const args = ['req', '-inform', 'der', '-in', at('node.der'), '-verify', '-noout', '-text'];
		const text = execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
		expect(text).toMatch(/Subject:\s*\n/);
		expect(text).toContain('NIST CURVE: P-256');
		expect(text).toContain('(none)');
	});
});

describe('verifyCsr', () => {
	it('takes the key of an honest request', () => {
		const signer = generateSigner('ecdsa-p256-sha256');
		expect(verifyCsr(createCsr(signer))).toMatchObject({ kind: 'ok', key: { keyId: signer.keyId } });
	});

	it('takes the key of a request by OpenSSL and nothing of its subject, names and extensions', () => {
		const csr = opensslCsr(
			...P256,
			'-subj',
			'/CN=root',
			'-addext',
			'subjectAltName=URI:spiffe://cluster.test/replica/evil,DNS:gateway.cluster.test',
			'-addext',
			'basicConstraints=critical,CA:TRUE',
		);
		const result = verifyCsr(csr);
		expect(result.kind).toBe('ok');
		// The result has a key and no place for anything else.
		expect(Object.keys(result)).toEqual(['kind', 'key']);
	});

	it('refuses a request that the key in it did not sign', () => {
		const honest = createCsr(generateSigner('ecdsa-p256-sha256'));
		const other = generateSigner('ecdsa-p256-sha256');
		const swapped = Buffer.from(honest);
		// Same length, another key: what a man in the middle would do to get somebody else's key certified.
		const point = swapped.indexOf(Buffer.from('034200', 'hex')) + 3;
		Buffer.from(other.spki().subarray(-65)).copy(swapped, point);
		expect(verifyCsr(swapped)).toMatchObject({ kind: 'refused', reason: 'CSR_INVALID' });
		expect(verifyCsr(swapped)).toMatchObject({ message: expect.stringContaining('was not made by the key in it') });
	});

	it('refuses every single flipped bit', () => {
		const honest = createCsr(generateSigner('ecdsa-p256-sha256'));
		for (let bit = 0; bit < honest.length * 8; bit += 1) {
			const flipped = honest.slice();
			flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
			expect(verifyCsr(flipped).kind, `bit ${bit}`).toBe('refused');
		}
	});

	it('refuses other kinds of key, other digests, bytes left over and no DER', () => {
		expect(verifyCsr(opensslCsr('-newkey', 'rsa:2048', '-subj', '/CN=a')).kind).toBe('refused');
		expect(verifyCsr(opensslCsr(...P256, '-sha512', '-subj', '/CN=a')).kind).toBe('refused');
		expect(verifyCsr(createCsr(generateSigner('ed25519'))).kind).toBe('refused');
		expect(verifyCsr(createCsr(generateSigner('ed25519')), ['ed25519']).kind).toBe('ok');
		const honest = createCsr(generateSigner('ecdsa-p256-sha256'));
		expect(verifyCsr(Buffer.concat([honest, Uint8Array.of(0)])).kind).toBe('refused');
		expect(verifyCsr(honest.subarray(0, -1)).kind).toBe('refused');
		expect(verifyCsr(new Uint8Array(9000)).kind).toBe('refused');
		expect(verifyCsr(new Uint8Array(0)).kind).toBe('refused');
	});
});
