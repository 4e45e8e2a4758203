import { beforeAll, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { createRoot } from '../ca/authority.ts';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from '../ca/test-pki.ts';
import { generateSigner } from '../keys/signer.ts';
import { certificatePem } from '../x509/pem.ts';
import {
	acceptedIssuerKeyIds,
	decideBundle,
	decodeBundle,
	encodeBundle,
	rootPins,
	rootsPem,
	type TrustBundle,
	taskSignerKeys,
	trustAnchorsPem,
} from './bundle.ts';

let pki: TestPki;
let bundle: TrustBundle;
const taskSigner = generateSigner('ed25519');
beforeAll(async () => {
	pki = await makeTestPki();
	const signed = await issueTestLeaf(pki, { kind: 'task-signer', id: 'tasks-1' }, taskSigner);
	bundle = {
		trustDomain: 'cluster.test',
		sequence: 5,
		authorities: [
			{ role: 'root', state: 'active', certificateDer: pki.root.certificateDer },
			{ role: 'node', state: 'active', certificateDer: pki.node.certificateDer },
			{ role: 'replica', state: 'active', certificateDer: pki.replica.certificateDer },
		],
		taskSigners: [signed.certificateDer],
		auditKey: { name: 'cluster.test/audit', spki: generateSigner('ed25519').spki() },
	};
});

const changed = (change: Record<string, unknown>): Uint8Array => {
	const document = JSON.parse(Buffer.from(encodeBundle(bundle)).toString());
	return Buffer.from(JSON.stringify({ ...document, ...change }));
};

describe('bundle bytes', () => {
	it('come back, and are equal for equal bundles in any order', () => {
		const bytes = encodeBundle(bundle);
		const decoded = decodeBundle(bytes);
		expect(encodeBundle(decoded)).toEqual(bytes);
		expect(encodeBundle({ ...bundle, authorities: [...bundle.authorities].reverse() })).toEqual(bytes);
		expect(decoded.auditKey).toEqual(bundle.auditKey);
		expect(decoded.sequence).toBe(5);
	});

	it.each([
		['another format', { format: 'v2' }],
		['no sequence', { sequence: 0 }],
		['a malformed trust domain', { trust_domain: 'A b' }],
		['no authorities', { authorities: undefined }],
		['33 authorities', { authorities: Array(33).fill({}) }],
		['an unknown role', { authorities: [{ role: 'x', state: 'active', certificate: 'AA==' }] }],
		['an authority that is none', { authorities: [{ role: 'root', state: 'active', certificate: 'AA==' }] }],
		['no base64', { task_signers: ['!'] }],
		['no audit key', { audit_key: null }],
	])('are refused with %s', (_name, change) => {
		expect(() => decodeBundle(changed(change))).toThrow(expect.objectContaining({ reason: 'TRUST_BUNDLE_INVALID' }));
	});

	it('are refused when they are no JSON or too many', () => {
		expect(() => decodeBundle(Buffer.from('{'))).toThrow('no JSON');
		expect(() => decodeBundle(new Uint8Array(300_000))).toThrow('longer');
		expect(() => decodeBundle(changed({}))).not.toThrow();
	});

	it('take no leaf for an authority', async () => {
		const { certificateDer } = await issueTestLeaf(pki, TEST_NODE);
		const withLeaf = { ...bundle, authorities: [{ role: 'node' as const, state: 'active' as const, certificateDer }] };
		expect(() => decodeBundle(encodeBundle(withLeaf))).toThrow('no CA certificate');
	});
});

describe('decideBundle', () => {
	it('goes forward only, and stays in its domain', () => {
		expect(decideBundle(bundle, { ...bundle, sequence: 6 }).kind).toBe('accept');
		expect(decideBundle(bundle, bundle).kind).toBe('same');
		expect(decideBundle(bundle, { ...bundle, sequence: 4 }).kind).toBe('refused');
		expect(decideBundle(bundle, { ...bundle, taskSigners: [] }).kind).toBe('refused');
		expect(decideBundle(bundle, { ...bundle, sequence: 6, trustDomain: 'other.test' }).kind).toBe('refused');
	});
});

describe('what a bundle says', () => {
	it('accepts issuers by kind and drops tainted ones', () => {
		expect([...acceptedIssuerKeyIds(bundle, 'node')]).toEqual([pki.node.keyId]);
		expect([...acceptedIssuerKeyIds(bundle, 'replica')]).toEqual([pki.replica.keyId]);
		const tainted = bundle.authorities.map((entry) => ({ ...entry, state: 'tainted' as const }));
		expect(acceptedIssuerKeyIds({ ...bundle, authorities: tainted }, 'node').size).toBe(0);
	});

	it('names its roots', async () => {
		const next = await createRoot({
			trustDomain: 'cluster.test',
			signer: generateSigner('ecdsa-p384-sha384'),
			nowMs: pki.nowMs,
			rng: systemRng,
		});
		const two = {
			...bundle,
			authorities: [
				...bundle.authorities,
				{ role: 'root' as const, state: 'next' as const, certificateDer: next.certificateDer },
			],
		};
		expect(rootPins(two)).toEqual([pki.root.keyId, next.keyId]);
		expect(rootsPem(two)).toHaveLength(2);
	});

	it('names as anchors of TLS its roots and what they have signed, and nobody else', async () => {
		const pems = bundle.authorities.map(({ certificateDer }) => certificatePem(certificateDer));
		expect(trustAnchorsPem(bundle)).toEqual(pems);
		const stranger = await makeTestPki();
		const foreign = { role: 'node' as const, state: 'active' as const, certificateDer: stranger.node.certificateDer };
		expect(trustAnchorsPem({ ...bundle, authorities: [...bundle.authorities, foreign] })).toEqual(pems);
		// One byte of the root's signature: its key identifiers still name our root.
		const altered = pki.replica.certificateDer.slice();
		altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
		const broken = { role: 'replica' as const, state: 'active' as const, certificateDer: altered };
		expect(trustAnchorsPem({ ...bundle, authorities: [...bundle.authorities, broken] })).toEqual(pems);
	});

	it('gives the keys that may sign tasks', () => {
		expect(taskSignerKeys(bundle, pki.nowMs).map(({ keyId }) => keyId)).toEqual([taskSigner.keyId]);
	});

	it('gives none for a signer that expired, is no task signer, or is not certified by an accepted replica CA', async () => {
		const keysOf = (taskSigners: Uint8Array[], nowMs = pki.nowMs, authorities = bundle.authorities) =>
			taskSignerKeys({ ...bundle, taskSigners, authorities }, nowMs);
		expect(keysOf([...bundle.taskSigners], pki.nowMs + 31 * 86_400_000)).toEqual([]);
		const replica = await issueTestLeaf(pki, TEST_REPLICA);
		const node = await issueTestLeaf(pki, TEST_NODE);
		expect(keysOf([replica.certificateDer, node.certificateDer, Buffer.from('junk')])).toEqual([]);
		const stranger = await makeTestPki();
		const foreign = await issueTestLeaf(stranger, { kind: 'task-signer', id: 'x' }, taskSigner);
		expect(keysOf([foreign.certificateDer])).toEqual([]);
		// The node CA's thief certifies a task signer of his own.
		const byNodeCa = await issueTestLeaf(
			{ ...pki, replica: { ...pki.node, role: 'replica' } },
			{ kind: 'task-signer', id: 'x' },
			taskSigner,
		);
		expect(keysOf([byNodeCa.certificateDer])).toEqual([]);
		const tainted = bundle.authorities.map((entry) => ({ ...entry, state: 'tainted' as const }));
		expect(keysOf([...bundle.taskSigners], pki.nowMs, tainted)).toEqual([]);
	});

	it('does not believe a key id that somebody wrote into a certificate', async () => {
		const original = bundle.taskSigners[0] ?? new Uint8Array(0);
		const broken = original.slice();
		// The last byte of the signature: everything that is read stays as it was.
		broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1;
		expect(taskSignerKeys({ ...bundle, taskSigners: [broken] }, pki.nowMs)).toEqual([]);
	});
});
