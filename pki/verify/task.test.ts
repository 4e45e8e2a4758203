import { beforeAll, describe, expect, it } from 'vitest';
import { issueTestLeaf, makeTestPki, TEST_NODE, TEST_REPLICA, type TestPki } from '../ca/test-pki.ts';
import { generateSigner } from '../keys/signer.ts';
import { signDsse } from './dsse.ts';
import { sha256 } from './signature.ts';
import { payloadSha256, type ReceiptTrust, TASK_ENVELOPE_TYPE, TASK_RECEIPT_TYPE, verifyTaskReceipt } from './task.ts';

let pki: TestPki;
beforeAll(async () => {
	pki = await makeTestPki();
});
const nodeKey = generateSigner('ecdsa-p256-sha256');
const trust = async (change: Partial<ReceiptTrust> = {}): Promise<ReceiptTrust> => ({
	nodeCertificateDer: (await issueTestLeaf(pki, TEST_NODE, nodeKey)).certificateDer,
	nodeCaSpkis: [generateSigner('ecdsa-p256-sha256').spki(), pki.node.signer.spki()],
	trustDomain: 'cluster.test',
	...change,
});

describe('verifyTaskReceipt', () => {
	const payload = Buffer.from('a TaskReceipt');
	const receipt = () => signDsse(TASK_RECEIPT_TYPE, payload, nodeKey);

	it('says which node signed', async () => {
		const result = verifyTaskReceipt(await receipt(), await trust());
		expect(result).toMatchObject({ kind: 'ok', payload, nodeId: TEST_NODE.id });
	});

	it('refuses a receipt that another key signed, or that was altered', async () => {
		const forged = await signDsse(TASK_RECEIPT_TYPE, payload, generateSigner('ecdsa-p256-sha256'));
		expect(verifyTaskReceipt(forged, await trust()).kind).toBe('refused');
		const altered = { ...(await receipt()), payload: Buffer.from('A TaskReceipt') };
		expect(verifyTaskReceipt(altered, await trust()).kind).toBe('refused');
		const envelope = await signDsse(TASK_ENVELOPE_TYPE, payload, nodeKey);
		expect(verifyTaskReceipt(envelope, await trust()).kind).toBe('refused');
	});

	it('refuses certificates of unknown CAs, of other domains and of replicas', async () => {
		const stranger = await makeTestPki();
		const { certificateDer: foreign } = await issueTestLeaf(stranger, TEST_NODE, nodeKey);
		expect(verifyTaskReceipt(await receipt(), await trust({ nodeCertificateDer: foreign })).kind).toBe('refused');
		expect(verifyTaskReceipt(await receipt(), await trust({ trustDomain: 'other.test' })).kind).toBe('refused');
		const { certificateDer: replica } = await issueTestLeaf(pki, TEST_REPLICA, nodeKey);
		const asNode = { nodeCertificateDer: replica, nodeCaSpkis: [pki.replica.signer.spki()] };
		expect(verifyTaskReceipt(await receipt(), await trust(asNode))).toMatchObject({
			message: expect.stringContaining('not one of a node'),
		});
		expect(verifyTaskReceipt(await receipt(), await trust({ nodeCertificateDer: Buffer.from('x') })).kind).toBe(
			'refused',
		);
	});

	it('links to its envelope by the digest of the payload', async () => {
		const envelope = await signDsse(TASK_ENVELOPE_TYPE, Buffer.from('an envelope'), generateSigner('ed25519'));
		expect(payloadSha256(envelope)).toEqual(sha256(Buffer.from('an envelope')));
	});
});
