import { execFileSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { generateSigner } from '../keys/signer.ts';
import { identityOf } from '../trust/identity.ts';
import { createCsr } from '../x509/csr.ts';
import { parseCertificate } from '../x509/parse.ts';
import { createIssuingCa, createRoot, openAuthority } from './authority.ts';
import { AuthorityCertIssuer } from './issuer.ts';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from './test-pki.ts';

let pki: TestPki;
beforeAll(async () => {
	pki = await makeTestPki();
});
const HOUR_MS = 3_600_000;

function certificateOf(raw: Uint8Array) {
	const parsed = parseCertificate(raw);
	if (parsed.kind === 'malformed') throw new Error(parsed.detail);
	return parsed.certificate;
}

describe('AuthorityCertIssuer', () => {
	it('certifies the key of the request for the identity that the caller decided', async () => {
		const signer = generateSigner('ecdsa-p256-sha256');
		const issued = await issueTestLeaf(pki, TEST_NODE, signer);
		const leaf = certificateOf(issued.certificateDer);
		expect(leaf.spkiSha256Hex).toBe(signer.keyId);
		expect(leaf.uriSans).toEqual([`spiffe://cluster.test/node/${TEST_NODE.id}`]);
		expect(issued).toMatchObject({
			serialHex: leaf.serialHex,
			spkiSha256Hex: leaf.spkiSha256Hex,
			issuerKeyIdHex: leaf.issuerKeyIdHex,
			notBeforeMs: leaf.notBeforeMs,
			notAfterMs: leaf.notAfterMs,
		});
		expect(issued.issuerKeyIdHex).toBe(pki.node.keyId);
		expect(issued.chainDer).toEqual([issued.certificateDer, pki.node.certificateDer]);
		expect(issued.notBeforeMs).toBe(pki.nowMs - 60_000);
		expect(issued.notAfterMs).toBe(pki.nowMs + 24 * HOUR_MS);
	});

	it('takes no name from the request', async () => {
		const args = ['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-outform', 'der'];
		const asked = [
			'-subj',
			'/CN=gateway.cluster.test',
			'-addext',
			'subjectAltName=URI:spiffe://cluster.test/replica/x',
		];
		const csrDer = execFileSync('openssl', [...args, ...asked, '-keyout', '/dev/null'], {
			stdio: ['ignore', 'pipe', 'ignore'],
		});
		const issuer = new AuthorityCertIssuer(pki.node, systemRng);
		const issued = await issuer.issue({ subject: TEST_NODE, csrDer, nowMs: pki.nowMs });
		if (issued.kind === 'refused') throw new Error(issued.message);
		const leaf = certificateOf(issued.certificateDer);
		expect([leaf.uriSans, leaf.dnsSans, leaf.isCa]).toEqual([
			[`spiffe://cluster.test/node/${TEST_NODE.id}`],
			[],
			false,
		]);
		expect(Buffer.from(issued.certificateDer).includes('gateway')).toBe(false);
	});

	it('refuses a request whose proof of possession is broken', async () => {
		const csrDer = createCsr(generateSigner('ecdsa-p256-sha256'));
		csrDer[csrDer.length - 1] = (csrDer[csrDer.length - 1] ?? 0) ^ 1;
		const issuer = new AuthorityCertIssuer(pki.node, systemRng);
		const result = await issuer.issue({ subject: TEST_NODE, csrDer, nowMs: pki.nowMs });
		expect(result).toMatchObject({ kind: 'refused', reason: 'CSR_INVALID' });
	});

	it('keeps to the lifetimes: 1 to 24 h for a node, and never past its own end', async () => {
		const issuer = new AuthorityCertIssuer(pki.node, systemRng);
		const csrDer = createCsr(generateSigner('ecdsa-p256-sha256'));
		const at = (nowMs: number, ttlMs?: number) =>
			issuer.issue({ subject: TEST_NODE, csrDer, nowMs, ...(ttlMs === undefined ? {} : { ttlMs }) });
		expect(await at(pki.nowMs, HOUR_MS)).toMatchObject({ notAfterMs: pki.nowMs + HOUR_MS });
		expect(await at(pki.nowMs)).toMatchObject({ notAfterMs: pki.nowMs + 24 * HOUR_MS });
		await expect(at(pki.nowMs, HOUR_MS - 1)).rejects.toThrow('a node certificate of');
		await expect(at(pki.nowMs, 24 * HOUR_MS + 1)).rejects.toThrow('a node certificate of');
		expect(await at(pki.node.notAfterMs - HOUR_MS)).toMatchObject({ notAfterMs: pki.node.notAfterMs });
		await expect(at(pki.node.notAfterMs)).rejects.toMatchObject({
			reason: 'AUTHORITY_EXPIRED',
			message: expect.stringContaining('gpuaas ca renew'),
		});
	});

	it('issues only what its role allows', async () => {
		const csrDer = createCsr(generateSigner('ecdsa-p256-sha256'));
		const node = new AuthorityCertIssuer(pki.node, systemRng);
		const replica = new AuthorityCertIssuer(pki.replica, systemRng);
		const nowMs = pki.nowMs;
		await expect(node.issue({ subject: TEST_REPLICA, csrDer, nowMs })).rejects.toThrow('no replica certificates');
		await expect(replica.issue({ subject: TEST_NODE, csrDer, nowMs })).rejects.toThrow('no node certificates');
		expect(() => new AuthorityCertIssuer(pki.root, systemRng)).toThrow('never from the root');
	});

	it('refuses ids that would change the name', async () => {
		for (const id of ['', 'a/b', '../x', 'a b', '%2e', 'ä', 'x'.repeat(129)]) {
			await expect(issueTestLeaf(pki, { kind: 'node', id }), id).rejects.toThrow('an identity is');
		}
	});
});

describe('authorities', () => {
	it('insists on its algorithms and its own root', async () => {
		const shared = { trustDomain: 'cluster.test', nowMs: pki.nowMs, rng: systemRng };
		const small = generateSigner('ecdsa-p256-sha256');
		expect(() => createRoot({ ...shared, signer: small })).toThrow('P-384');
		expect(() => createIssuingCa('node', pki.root, { ...shared, signer: pki.root.signer })).toThrow('P-256');
		expect(() => createIssuingCa('node', pki.root, { ...shared, trustDomain: 'x.test', signer: small })).toThrow(
			'own root',
		);
	});

	it('has the documented lifetimes, an issuing CA never beyond its root', async () => {
		expect(pki.root.notAfterMs - pki.nowMs).toBe(3650 * 24 * HOUR_MS);
		expect(pki.node.notAfterMs - pki.nowMs).toBe(90 * 24 * HOUR_MS);
		const shared = { trustDomain: 'cluster.test', nowMs: pki.root.notAfterMs - HOUR_MS, rng: systemRng };
		const late = await createIssuingCa('node', pki.root, { ...shared, signer: generateSigner('ecdsa-p256-sha256') });
		expect(late.notAfterMs).toBe(pki.root.notAfterMs);
	});

	it('is taken up again with its own key only', async () => {
		const { signer, ...stored } = pki.node;
		const reopened = openAuthority(stored, signer);
		const issued = await issueTestLeaf({ ...pki, node: reopened }, TEST_NODE);
		const accepted = { trustDomain: 'cluster.test', acceptedIssuerKeyIds: new Set([pki.node.keyId]), nowMs: pki.nowMs };
		expect(identityOf(issued.certificateDer, { ...accepted, expect: 'node' }).kind).toBe('ok');
		expect(() => openAuthority(stored, generateSigner('ecdsa-p256-sha256'))).toThrow('another key');
	});
});
