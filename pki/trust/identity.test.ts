import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { createIssuingCa } from '../ca/authority.ts';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from '../ca/test-pki.ts';
import { generateSigner, KeyObjectSigner } from '../keys/signer.ts';
import { VerifyKey } from '../verify/signature.ts';
import { type CertificateFields, makeCertificate, randomSerial } from '../x509/certificate.ts';
import { parseCertificate } from '../x509/parse.ts';
import { certificatePem } from '../x509/pem.ts';
import { findPinnedCa, isSignedBy } from './chain.ts';
import { EKU_CLIENT_AUTH, EKU_SERVER_AUTH, type IdentityExpectation, identityOf } from './identity.ts';
import { isTrustDomain, parseSpiffeId } from './spiffe.ts';

let pki: TestPki;
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-identity-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(async () => {
	pki = await makeTestPki();
});

const nodeDoor = (): IdentityExpectation => ({
	trustDomain: pki.trustDomain,
	acceptedIssuerKeyIds: new Set([pki.node.keyId]),
	expect: 'node',
	nowMs: pki.nowMs,
});
const replicaDoor = (): IdentityExpectation => ({
	...nodeDoor(),
	acceptedIssuerKeyIds: new Set([pki.replica.keyId]),
	expect: 'replica',
});

/** A leaf by the node CA's own key that breaks the profile: what a bug, or a thief of the CA, would make. */
function oddLeaf(fields: Partial<CertificateFields>): Promise<Uint8Array> {
	return makeCertificate(
		{
			serialHex: randomSerial(systemRng),
			subject: '',
			spki: generateSigner('ecdsa-p256-sha256').spki(),
			notBeforeMs: pki.nowMs - 60_000,
			notAfterMs: pki.nowMs + 3_600_000,
			ekus: [EKU_SERVER_AUTH, EKU_CLIENT_AUTH],
			sans: [{ type: 'url', value: 'spiffe://cluster.test/node/n1' }],
			...fields,
		},
		pki.node,
	);
}

describe('identityOf', () => {
	it('names the node and what the caller looks up', async () => {
		const issued = await issueTestLeaf(pki, TEST_NODE);
		const { serialHex, spkiSha256Hex, issuerKeyIdHex, notBeforeMs, notAfterMs } = issued;
		const expected = {
			kind: 'ok',
			id: TEST_NODE.id,
			serialHex,
			spkiSha256Hex,
			issuerKeyIdHex,
			notBeforeMs,
			notAfterMs,
		};
		expect(identityOf(issued.certificateDer, nodeDoor())).toEqual(expected);
	});

	it('names the replica', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_REPLICA);
		expect(identityOf(certificateDer, replicaDoor())).toMatchObject({ kind: 'ok', id: 'replica-1' });
	});

	it('keeps nodes out of the replicas door and replicas out of the nodes door', async () => {
		const node = await issueTestLeaf(pki, TEST_NODE);
		const replica = await issueTestLeaf(pki, TEST_REPLICA);
		expect(identityOf(node.certificateDer, replicaDoor())).toMatchObject({ reason: 'CERTIFICATE_WRONG_KIND' });
		expect(identityOf(replica.certificateDer, nodeDoor()).kind).toBe('refused');
		const signer = await issueTestLeaf(pki, { kind: 'task-signer', id: 't' }, generateSigner('ed25519'));
		expect(identityOf(signer.certificateDer, nodeDoor()).kind).toBe('refused');
		expect(identityOf(signer.certificateDer, replicaDoor()).kind).toBe('refused');
	});

	it('keeps out a leaf that the other CA made for this door', async () => {
		// The replica CA's thief writes a node's name into a leaf: only the issuer key id tells.
		const forged = await issueTestLeaf({ ...pki, node: { ...pki.replica, role: 'node' } }, TEST_NODE);
		expect(identityOf(forged.certificateDer, nodeDoor())).toMatchObject({ reason: 'CERTIFICATE_ISSUER_NOT_ACCEPTED' });
	});

	it('refuses a leaf of a revoked issuing CA, which TLS still accepts', async () => {
		const shared = { trustDomain: pki.trustDomain, nowMs: pki.nowMs, rng: systemRng };
		const next = await createIssuingCa('node', pki.root, { ...shared, signer: generateSigner('ecdsa-p256-sha256') });
		const old = await issueTestLeaf(pki, TEST_NODE);
		const both = { ...nodeDoor(), acceptedIssuerKeyIds: new Set([pki.node.keyId, next.keyId]) };
		const nextOnly = { ...nodeDoor(), acceptedIssuerKeyIds: new Set([next.keyId]) };
		expect(identityOf(old.certificateDer, both).kind).toBe('ok');
		expect(identityOf(old.certificateDer, nextOnly)).toMatchObject({ reason: 'CERTIFICATE_ISSUER_NOT_ACCEPTED' });
		expect(identityOf(old.certificateDer, { ...both, acceptedIssuerKeyIds: new Set() }).kind).toBe('refused');
	});

	it('refuses another trust domain', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_NODE);
		const other = { ...nodeDoor(), trustDomain: 'other.test' };
		expect(identityOf(certificateDer, other)).toMatchObject({ reason: 'CERTIFICATE_WRONG_TRUST_DOMAIN' });
	});

	it.each([
		['no URI name', { sans: [] }],
		[
			'two URI names',
			{ sans: ['n1', 'n2'].map((id) => ({ type: 'url' as const, value: `spiffe://cluster.test/node/${id}` })) },
		],
		[
			'a DNS name beside it',
			{
				sans: [
					{ type: 'url', value: 'spiffe://cluster.test/node/n1' },
					{ type: 'dns', value: 'gateway.cluster.test' },
				],
			},
		],
		['a name of another scheme', { sans: [{ type: 'url', value: 'https://cluster.test/node/n1' }] }],
		['a longer path', { sans: [{ type: 'url', value: 'spiffe://cluster.test/node/n1/x' }] }],
		['an empty id', { sans: [{ type: 'url', value: 'spiffe://cluster.test/node/' }] }],
		['a query', { sans: [{ type: 'url', value: 'spiffe://cluster.test/node/n1?x' }] }],
		['a port', { sans: [{ type: 'url', value: 'spiffe://cluster.test:1/node/n1' }] }],
		['an upper-case trust domain', { sans: [{ type: 'url', value: 'spiffe://CLUSTER.test/node/n1' }] }],
		['the CA flag', { caPathLength: 0, subject: 'CN=x' }],
		['no extended key usage', { ekus: [] }],
		['server only', { ekus: [EKU_SERVER_AUTH] }],
		['code signing', { ekus: ['1.3.6.1.5.5.7.3.3'] }],
		['any extended key usage', { ekus: ['2.5.29.37.0'] }],
	] satisfies [string, Partial<CertificateFields>][])('refuses a leaf with %s', async (_name, fields) => {
		const result = identityOf(await oddLeaf(fields), nodeDoor());
		expect(result).toMatchObject({ kind: 'refused', reason: 'CERTIFICATE_PROFILE_INVALID' });
	});

	it('accepts the leaf that those cases bend', async () => {
		expect(identityOf(await oddLeaf({}), nodeDoor())).toMatchObject({ kind: 'ok', id: 'n1' });
	});

	it.each([
		[['spiffe://cluster.test/replica/r1'], "doesn't name gateway.cluster.test"],
		[['spiffe://cluster.test/replica/r1', 'spiffe://cluster.test/replica/r2'], 'has 2 URI names'],
		[[], 'has 0 URI names'],
	])('refuses a replica with the URI names %s and no other', async (uris, message) => {
		const gateway = uris.length === 1 ? [] : [{ type: 'dns', value: 'gateway.cluster.test' } as const];
		const odd = await makeCertificate(
			{
				serialHex: randomSerial(systemRng),
				subject: 'CN=odd',
				spki: generateSigner('ecdsa-p256-sha256').spki(),
				notBeforeMs: pki.nowMs,
				notAfterMs: pki.nowMs + 3_600_000,
				ekus: [EKU_SERVER_AUTH, EKU_CLIENT_AUTH],
				sans: [...uris.map((value) => ({ type: 'url', value }) as const), ...gateway],
			},
			pki.replica,
		);
		const result = identityOf(odd, replicaDoor());
		expect(result).toMatchObject({ reason: 'CERTIFICATE_PROFILE_INVALID', message: expect.stringContaining(message) });
	});

	it('looks at the clock at both ends, with the skew that it is given', async () => {
		const { certificateDer, notBeforeMs, notAfterMs } = await issueTestLeaf(pki, TEST_NODE);
		const at = (nowMs: number, clockSkewMs = 0) => {
			const result = identityOf(certificateDer, { ...nodeDoor(), nowMs, clockSkewMs });
			return result.kind === 'ok' ? 'ok' : result.reason;
		};
		expect(at(notBeforeMs)).toBe('ok');
		expect(at(notBeforeMs - 1)).toBe('CERTIFICATE_NOT_YET_VALID');
		expect(at(notBeforeMs - 30_000, 30_000)).toBe('ok');
		expect(at(notBeforeMs - 30_001, 30_000)).toBe('CERTIFICATE_NOT_YET_VALID');
		expect(at(notAfterMs - 1)).toBe('ok');
		expect(at(notAfterMs)).toBe('CERTIFICATE_EXPIRED');
		expect(at(notAfterMs + 29_999, 30_000)).toBe('ok');
		expect(at(notAfterMs + 30_000, 30_000)).toBe('CERTIFICATE_EXPIRED');
	});

	it('refuses what is no certificate', () => {
		expect(identityOf(new Uint8Array(0), nodeDoor())).toMatchObject({ reason: 'CERTIFICATE_MALFORMED' });
		expect(identityOf(Buffer.from('junk'), nodeDoor())).toMatchObject({ reason: 'CERTIFICATE_MALFORMED' });
	});

	it.each([
		[
			'two URI names',
			'subjectAltName=URI:spiffe://cluster.test/node/a,URI:spiffe://cluster.test/node/b\nkeyUsage=critical,digitalSignature',
		],
		[
			'the right to sign certificates',
			'subjectAltName=URI:spiffe://cluster.test/node/a\nkeyUsage=critical,digitalSignature,keyCertSign',
		],
		['no right to sign', 'subjectAltName=URI:spiffe://cluster.test/node/a\nkeyUsage=critical,keyAgreement'],
		['no key usage at all', 'subjectAltName=URI:spiffe://cluster.test/node/a'],
	])('refuses a leaf made by OpenSSL with %s', (_name, extensions) => {
		const at = (name: string) => join(folder, name);
		if (!(pki.node.signer instanceof KeyObjectSigner)) throw new Error('test keys are in memory');
		writeFileSync(at('ca.key'), pki.node.signer.exportPkcs8Pem());
		writeFileSync(at('ca.pem'), certificatePem(pki.node.certificateDer));
		writeFileSync(
			at('ext.cnf'),
			`${extensions}\nextendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n`,
		);
		const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at('leaf.key')];
		execFileSync('openssl', ['req', '-new', ...key, '-subj', '/CN=x', '-out', at('leaf.csr')], { stdio: 'ignore' });
		const ca = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-extfile', at('ext.cnf')];
		const out = ['-outform', 'der', '-out', at('leaf.der')];
		execFileSync('openssl', ['x509', '-req', '-in', at('leaf.csr'), ...ca, ...out], { stdio: 'ignore' });
		const result = identityOf(readFileSync(at('leaf.der')), nodeDoor());
		expect(result).toMatchObject({ kind: 'refused', reason: 'CERTIFICATE_PROFILE_INVALID' });
	});
});

describe('chains', () => {
	it('knows who signed a certificate', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_NODE);
		const parsed = parseCertificate(certificateDer);
		const key = VerifyKey.parse(pki.node.signer.spki());
		const other = VerifyKey.parse(pki.replica.signer.spki());
		if (parsed.kind === 'malformed' || !key || !other) throw new Error('test certificates are well-formed');
		expect(isSignedBy(parsed.certificate, key)).toBe(true);
		expect(isSignedBy(parsed.certificate, other)).toBe(false);
		expect(isSignedBy({ ...parsed.certificate, issuerKeyIdHex: other.keyId }, other)).toBe(false);
		expect(isSignedBy({ ...parsed.certificate, tbs: parsed.certificate.tbs.slice(1) }, key)).toBe(false);
	});

	it('finds the CA that a token pins, and takes no leaf for one', async () => {
		const { chainDer, spkiSha256Hex } = await issueTestLeaf(pki, TEST_REPLICA);
		const presented = [...chainDer, pki.root.certificateDer];
		expect(findPinnedCa(presented, ['0'.repeat(64), pki.root.keyId])).toBe(pki.root.certificateDer);
		expect(findPinnedCa(presented, ['0'.repeat(64)])).toBeUndefined();
		expect(findPinnedCa(presented, [spkiSha256Hex])).toBeUndefined();
		expect(findPinnedCa([Buffer.from('junk')], [pki.root.keyId])).toBeUndefined();
	});
});

describe('names', () => {
	it('takes DNS names in lower case as trust domains', () => {
		for (const text of ['cluster.test', 'a', 'x-1.y']) expect(isTrustDomain(text), text).toBe(true);
		for (const text of ['', 'A.test', '-a', 'a-', 'a..b', 'a.', 'a/b', 'a:1', 'a_b', 'x'.repeat(64)]) {
			expect(isTrustDomain(text), text).toBe(false);
		}
	});

	it('reads only what it writes', () => {
		expect(parseSpiffeId('spiffe://cluster.test/node/n1')).toEqual({
			trustDomain: 'cluster.test',
			kind: 'node',
			id: 'n1',
		});
		for (const uri of [
			'spiffe://cluster.test/user/n1',
			'SPIFFE://cluster.test/node/n1',
			'spiffe:///node/n1',
			'spiffe://cluster.test/node/..',
		]) {
			expect(parseSpiffeId(uri), uri).toBeUndefined();
		}
	});
});
