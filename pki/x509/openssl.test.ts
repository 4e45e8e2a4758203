import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { createIssuingCa } from '../ca/authority.ts';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from '../ca/test-pki.ts';
import { generateSigner, type Signer } from '../keys/signer.ts';
import { EKU_TASK_SIGNING } from '../trust/identity.ts';
import { makeCertificate, randomSerial } from './certificate.ts';
import { certificatePem } from './pem.ts';

/** What we issue, as OpenSSL sees it: the library that will judge it in every TLS handshake. */
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-openssl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let pki: TestPki;
beforeAll(async () => {
	pki = await makeTestPki();
	write('root.pem', pki.root.certificateDer);
});

function write(name: string, ...certificates: Uint8Array[]): string {
	const path = join(folder, name);
	writeFileSync(path, certificates.map(certificatePem).join(''));
	return path;
}

function verify(leaf: Uint8Array, intermediates: Uint8Array[], atMs: number, ...args: string[]) {
	const chain = ['-CAfile', join(folder, 'root.pem'), '-untrusted', write('chain.pem', ...intermediates)];
	const all = ['verify', '-x509_strict', '-attime', `${Math.floor(atMs / 1000)}`, ...chain, ...args];
	const { status, stdout, stderr } = spawnSync('openssl', [...all, write('leaf.pem', leaf)], { encoding: 'utf8' });
	return { ok: status === 0, output: stdout + stderr };
}

function text(certificate: Uint8Array): string {
	return execFileSync('openssl', ['x509', '-noout', '-text', '-in', write('text.pem', certificate)]).toString();
}

describe('openssl verify', () => {
	it('accepts a node leaf as client and as server, under strict rules', async () => {
		const leaf = await issueTestLeaf(pki, TEST_NODE);
		for (const purpose of ['sslclient', 'sslserver']) {
			const result = verify(leaf.certificateDer, [pki.node.certificateDer], pki.nowMs, '-purpose', purpose);
			expect(result.ok, result.output).toBe(true);
		}
	});

	it('accepts a replica leaf under each of its names, and under no other', async () => {
		const leaf = await issueTestLeaf(pki, TEST_REPLICA);
		const at = (...args: string[]) => verify(leaf.certificateDer, [pki.replica.certificateDer], pki.nowMs, ...args);
		expect(at('-verify_hostname', 'gateway.cluster.test').ok).toBe(true);
		expect(at('-verify_hostname', 'localhost').ok).toBe(true);
		expect(at('-verify_ip', '127.0.0.1').ok).toBe(true);
		expect(at('-verify_ip', '::1').ok).toBe(true);
		expect(at('-verify_hostname', 'gateway.other.test').ok).toBe(false);
		expect(at('-verify_ip', '127.0.0.2').ok).toBe(false);
	});

	it('is valid from a minute before issue until its end, and neither before nor after', async () => {
		const leaf = await issueTestLeaf(pki, TEST_NODE);
		const at = (ms: number) => verify(leaf.certificateDer, [pki.node.certificateDer], ms);
		expect(at(pki.nowMs - 60_000).ok).toBe(true);
		expect(at(pki.nowMs - 61_000).output).toContain('not yet valid');
		expect(at(pki.nowMs + 24 * 3_600_000 - 1000).ok).toBe(true);
		expect(at(pki.nowMs + 24 * 3_600_000).output).toContain('expired');
	});

	it('refuses a leaf without its issuing CA, under another root, and under the other issuing CA', async () => {
		const leaf = await issueTestLeaf(pki, TEST_NODE);
		expect(verify(leaf.certificateDer, [], pki.nowMs).ok).toBe(false);
		expect(verify(leaf.certificateDer, [pki.replica.certificateDer], pki.nowMs).ok).toBe(false);
		const stranger = await makeTestPki();
		const foreign = await issueTestLeaf(stranger, TEST_NODE);
		expect(verify(foreign.certificateDer, [stranger.node.certificateDer], pki.nowMs).ok).toBe(false);
	});

	it('finds no path for a leaf that names another issuer key than the one that signed it', async () => {
		// A thief of a revoked issuing CA writes the accepted key id into his leaf: this is why the id may be believed.
		const stolen = generateSigner('ecdsa-p256-sha256');
		const shared = { trustDomain: pki.trustDomain, nowMs: pki.nowMs, rng: systemRng };
		const revoked = await createIssuingCa('node', pki.root, { ...shared, signer: stolen });
		const forger: Signer = {
			keyId: pki.node.keyId,
			algorithm: stolen.algorithm,
			custody: stolen.custody,
			spki: () => stolen.spki(),
			sign: (bytes) => stolen.sign(bytes),
		};
		const forged = await makeCertificate(
			{
				serialHex: randomSerial(systemRng),
				subject: '',
				spki: generateSigner('ecdsa-p256-sha256').spki(),
				notBeforeMs: pki.nowMs,
				notAfterMs: pki.nowMs + 3_600_000,
				ekus: [],
				sans: [{ type: 'url', value: 'spiffe://cluster.test/node/forged' }],
			},
			{ signer: forger, certificateDer: revoked.certificateDer },
		);
		const honest = await issueTestLeaf({ ...pki, node: revoked }, TEST_NODE);
		// The control: with its true issuer named, a leaf of that CA passes.
		expect(verify(honest.certificateDer, [revoked.certificateDer], pki.nowMs).ok).toBe(true);
		expect(verify(forged, [revoked.certificateDer, pki.node.certificateDer], pki.nowMs).ok).toBe(false);
		expect(verify(forged, [revoked.certificateDer], pki.nowMs).ok).toBe(false);
	});

	it('does not let an issuing CA make another CA', async () => {
		const signer = generateSigner('ecdsa-p256-sha256');
		const shared = { trustDomain: pki.trustDomain, nowMs: pki.nowMs, rng: systemRng };
		const below = await createIssuingCa('node', { ...pki.node, role: 'root' }, { ...shared, signer });
		const leaf = await issueTestLeaf({ ...pki, node: below }, TEST_NODE);
		const result = verify(leaf.certificateDer, [below.certificateDer, pki.node.certificateDer], pki.nowMs);
		expect(result.output).toContain('path length constraint');
	});
});

describe('openssl x509 -text', () => {
	it('shows the profile of a node leaf', async () => {
		const shown = text((await issueTestLeaf(pki, TEST_NODE)).certificateDer);
		expect(shown).toMatch(/Subject:\s*\n/);
		expect(shown).toMatch(/Basic Constraints: critical\s+CA:FALSE/);
		expect(shown).toMatch(/Key Usage: critical\s+Digital Signature\n/);
		expect(shown).toMatch(/TLS Web Server Authentication, TLS Web Client Authentication/);
		const name = 'id' in TEST_NODE ? TEST_NODE.id : '';
		expect(shown).toMatch(new RegExp(`Alternative Name: critical\\s+URI:spiffe://cluster\\.test/node/${name}\\n`));
		expect(shown).toContain('NIST CURVE: P-256');
	});

	it('shows the root and the issuing CAs', () => {
		expect(text(pki.root.certificateDer)).toMatch(/CA:TRUE, pathlen:1[\s\S]*Certificate Sign, CRL Sign/);
		expect(text(pki.root.certificateDer)).toContain('NIST CURVE: P-384');
		const issuing = text(pki.node.certificateDer);
		expect(issuing).toMatch(/CA:TRUE, pathlen:0/);
		expect(issuing).toContain('ecdsa-with-SHA384');
		expect(issuing.toLowerCase().replaceAll(':', '')).toContain(pki.root.keyId);
	});

	it('shows the task signer with our own extended key usage and no TLS one', async () => {
		const leaf = await issueTestLeaf(pki, { kind: 'task-signer', id: 'tasks-1' }, generateSigner('ed25519'));
		const shown = text(leaf.certificateDer);
		expect(shown).toContain(EKU_TASK_SIGNING);
		expect(shown).not.toContain('TLS Web');
		expect(shown).toContain('ED25519');
		const tls = verify(leaf.certificateDer, [pki.replica.certificateDer], pki.nowMs, '-purpose', 'sslserver');
		expect(tls.ok).toBe(false);
		expect(verify(leaf.certificateDer, [pki.replica.certificateDer], pki.nowMs).ok).toBe(true);
	});

	it('never repeats a serial, and draws it from 126 random bits', async () => {
		const serials = new Set<string>();
		for (let count = 0; count < 200; count += 1) serials.add(randomSerial(systemRng));
		expect(serials.size).toBe(200);
		for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9a-f]{31}$/);
		const drawn = (byte: number) => randomSerial({ ...systemRng, bytes: (count) => new Uint8Array(count).fill(byte) });
		// Every bit that isn't fixed is the generator's.
		expect([drawn(0xff), drawn(0)]).toEqual([`7f${'ff'.repeat(15)}`, `40${'00'.repeat(15)}`]);
		expect(readFileSync(join(folder, 'root.pem'), 'utf8')).toContain('BEGIN CERTIFICATE');
	});
});
