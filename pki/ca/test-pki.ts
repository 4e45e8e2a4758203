import { systemRng } from '../../kit/ids.ts';
import { generateSigner } from '../keys/signer.ts';
import { createCsr } from '../x509/csr.ts';
import { type AuthoritySet, createAuthoritySet } from './authority.ts';
import { AuthorityCertIssuer, type IssuedCertificate, type LeafSubject } from './issuer.ts';

/** A complete PKI with fresh keys, for tests only: real keys, real certificates, no disk. */
export interface TestPki extends AuthoritySet {
	readonly trustDomain: string;
	readonly nowMs: number;
}

export const TEST_NOW_MS = Date.UTC(2030, 5, 15, 12, 0, 0);

export async function makeTestPki(trustDomain = 'cluster.test', nowMs = TEST_NOW_MS): Promise<TestPki> {
	const set = await createAuthoritySet(
		{
			root: generateSigner('ecdsa-p384-sha384'),
			node: generateSigner('ecdsa-p256-sha256'),
			replica: generateSigner('ecdsa-p256-sha256'),
		},
		{ trustDomain, nowMs, rng: systemRng },
	);
	return { ...set, trustDomain, nowMs };
}

/** Issues a leaf for `signer`'s key from the CA that its kind belongs to. */
export async function issueTestLeaf(
	pki: Pick<TestPki, 'node' | 'replica' | 'nowMs'>,
	subject: LeafSubject,
	signer = generateSigner('ecdsa-p256-sha256'),
): Promise<IssuedCertificate> {
	const issuer = new AuthorityCertIssuer(subject.kind === 'node' ? pki.node : pki.replica, systemRng);
	const issued = await issuer.issue({ subject, csrDer: createCsr(signer), nowMs: pki.nowMs });
	if (issued.kind === 'refused') throw new Error(issued.message);
	return issued;
}

export const TEST_NODE: LeafSubject = { kind: 'node', id: '0190d7a0-0000-7000-8000-000000000001' };
export const TEST_REPLICA: LeafSubject = {
	kind: 'replica',
	id: 'replica-1',
	dnsNames: ['localhost'],
	ipAddresses: ['127.0.0.1', '::1'],
};
