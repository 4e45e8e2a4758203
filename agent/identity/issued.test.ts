import { beforeAll, describe, expect, it } from 'vitest';
import type { IssuedCertificate, LeafSubject } from '../../pki/ca/issuer.ts';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from '../../pki/ca/test-pki.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import { encodeBundle, type TrustBundle } from '../../pki/trust/bundle.ts';
import { checkIssued } from './issued.ts';

const AUDIT_KEY = { name: 'cluster.test/audit', spki: generateSigner('ed25519').spki() };
const signer = generateSigner('ecdsa-p256-sha256');

let pki: TestPki;
let stranger: TestPki;
let leaf: IssuedCertificate;
beforeAll(async () => {
	pki = await makeTestPki();
	stranger = await makeTestPki();
	leaf = await issueTestLeaf(pki, TEST_NODE, signer);
});

function bundleOf(of: Pick<TestPki, 'root' | 'node' | 'replica'>, more: Partial<TrustBundle> = {}): Uint8Array {
	const authorities = (['root', 'node', 'replica'] as const).map((role) => {
		return { role, state: 'active' as const, certificateDer: of[role].certificateDer };
	});
	return encodeBundle({
		trustDomain: 'cluster.test',
		sequence: 1,
		authorities,
		taskSigners: [],
		auditKey: AUDIT_KEY,
		...more,
	});
}

interface Answer {
	readonly nodeId: string;
	readonly chain: readonly Uint8Array[];
	readonly bundle: Uint8Array;
}

/** Whether a host takes the answer, in which `wrong` differs from a right one. */
function take(wrong: Partial<Answer> = {}, replicaIssuerKeyId = pki.replica.keyId): void {
	const answer = { nodeId: TEST_NODE.id, chain: leaf.chainDer, bundle: bundleOf(pki), ...wrong };
	checkIssued(answer, { trustDomain: 'cluster.test', keyId: signer.keyId, replicaIssuerKeyId });
}

const chainFor = async (subject: LeafSubject, key = signer, of = pki) =>
	(await issueTestLeaf(of, subject, key)).chainDer;

describe('what a host was given', () => {
	it('is taken when all of it fits together', () => {
		expect(() => take()).not.toThrow();
	});

	it('is refused with a certificate for another key', async () => {
		const chain = await chainFor(TEST_NODE, generateSigner('ecdsa-p256-sha256'));
		expect(() => take({ chain })).toThrow('for another key');
	});

	it('is refused with a certificate that names another node', async () => {
		const chain = await chainFor({ kind: 'node', id: 'another' });
		expect(() => take({ chain })).toThrow('names another node');
	});

	it('is refused with a certificate of a replica', async () => {
		const chain = await chainFor(TEST_REPLICA);
		expect(() => take({ chain })).toThrow('nothing was stored');
	});

	it('is refused with a certificate that no CA of the bundle signed, whatever issuer it names', async () => {
		const elsewhere = await chainFor(TEST_NODE, signer, stranger);
		expect(() => take({ chain: elsewhere })).toThrow('not accepted here');
		// One bit of the signature: every name in it is right.
		const [certificate = new Uint8Array()] = leaf.chainDer;
		const forged = certificate.slice();
		forged[forged.length - 1] = (forged[forged.length - 1] ?? 0) ^ 1;
		expect(() => take({ chain: [forged] })).toThrow('not signed by a CA of its trust bundle');
	});

	it('is refused with no certificate that can be read', () => {
		for (const chain of [[], [new Uint8Array()], [Buffer.from('no certificate')]]) {
			expect(() => take({ chain })).toThrow('no certificate that can be read');
		}
	});

	it('is refused with a bundle that does not know the listener that sent it', () => {
		expect(() => take({}, stranger.replica.keyId)).toThrow('does not know the listener');
	});

	it('is refused with a bundle of another trust domain, or one whose CAs its roots have not signed', () => {
		expect(() => take({ bundle: bundleOf(pki, { trustDomain: 'other.test' }) })).toThrow('another trust domain');
		const mixed = bundleOf({ ...pki, root: stranger.root });
		expect(() => take({ bundle: mixed })).toThrow('none of its roots has signed');
	});
});
