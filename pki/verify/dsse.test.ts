import { describe, expect, it } from 'vitest';
import { ed25519SignerFromSeed, generateSigner } from '../keys/signer.ts';
import { der } from '../x509/der.ts';
import { type DsseEnvelope, dssePae, signDsse, signDsseSync, verifyDsse, verifyDsseOnThread } from './dsse.ts';
import { VerifyKey } from './signature.ts';

const TYPE = 'application/vnd.gpuaas.task-envelope.v1+protobuf';

const VERIFIERS = [
	['this thread', verifyDsse],
	['another thread', verifyDsseOnThread],
] as const;

function keyOf(signer: { spki(): Uint8Array }): VerifyKey {
	const key = VerifyKey.parse(signer.spki());
	if (!key) throw new Error('a signer has a key');
	return key;
}

describe('the vector of DSSE protocol.md', () => {
	const payload = Buffer.from('hello world');
	const type = 'http://example.com/HelloWorld';

	it('has this pre-authentication encoding', () => {
		const pae = Buffer.from(dssePae(type, payload)).toString();
		expect(pae).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world');
	});

	it.each(VERIFIERS)('verifies by %s with its P-256 key, once its raw r and s are DER', async (_, verify) => {
		const coordinate = (decimal: string) => Buffer.from(BigInt(decimal).toString(16).padStart(64, '0'), 'hex');
		const spki = Buffer.concat([
			Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
			coordinate('46950820868899156662930047687818585632848591499744589407958293238635476079160'),
			coordinate('5640078356564379163099075877009565129882514886557779369047442380624545832820'),
		]);
		const signature = 'A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==';
		const raw = Buffer.from(signature, 'base64');
		const sig = der(0x30, der(0x02, raw.subarray(0, 32)), der(0x02, raw.subarray(32)));
		const key = VerifyKey.parse(spki);
		if (!key) throw new Error('the vector has a P-256 key');
		const envelope = { payloadType: type, payload, signatures: [{ keyid: key.keyId, sig }] };
		expect((await verify(envelope, { payloadType: type, keys: [key] })).kind).toBe('ok');
		const changed = { ...envelope, payload: Buffer.from('hello worle') };
		expect(await verify(changed, { payloadType: type, keys: [key] })).toMatchObject({ why: 'SIGNATURE' });
	});
});

describe.each(VERIFIERS)('DSSE by %s', (_, verify) => {
	const signer = generateSigner('ecdsa-p256-sha256');
	const expected = { payloadType: TYPE, keys: [keyOf(signer)] };
	const sealed = (): Promise<DsseEnvelope> => signDsse(TYPE, Buffer.from('payload'), signer);

	it('measures lengths in bytes, so that no two inputs have one encoding', () => {
		expect(Buffer.from(dssePae('é', Buffer.from(''))).toString()).toBe('DSSEv1 2 é 0 ');
		expect(dssePae('a', Buffer.from('b 1 c'))).not.toEqual(dssePae('a 5 b', Buffer.from('c')));
	});

	it('returns the verified bytes and who signed', async () => {
		const result = await verify(await sealed(), expected);
		expect(result).toEqual({ kind: 'ok', payload: Buffer.from('payload'), keyIds: [signer.keyId] });
	});

	it('signs synchronously and repeatably with Ed25519', async () => {
		const seeded = ed25519SignerFromSeed(new Uint8Array(32).fill(1));
		const first = signDsseSync(TYPE, Buffer.from('x'), seeded);
		expect(first).toEqual(signDsseSync(TYPE, Buffer.from('x'), seeded));
		expect((await verify(first, { payloadType: TYPE, keys: [keyOf(seeded)] })).kind).toBe('ok');
	});

	it('refuses a changed payload, type, key and signature', async () => {
		const envelope = await sealed();
		const whyOf = async (changed: Partial<DsseEnvelope>, expectation = expected) => {
			const result = await verify({ ...envelope, ...changed }, expectation);
			return result.kind === 'refused' ? result.why : 'ok';
		};
		expect(await whyOf({})).toBe('ok');
		expect(await whyOf({ payload: Buffer.from('Payload') })).toBe('SIGNATURE');
		expect(await whyOf({ payloadType: 'text/plain' })).toBe('PAYLOAD_TYPE');
		const retyped = { ...expected, payloadType: 'application/vnd.gpuaas.task-receipt.v1+protobuf' };
		expect(await whyOf({ payloadType: retyped.payloadType }, retyped)).toBe('SIGNATURE');
		expect(await whyOf({ signatures: [] })).toBe('UNKNOWN_KEY');
		expect(await whyOf({}, { ...expected, keys: [keyOf(generateSigner('ecdsa-p256-sha256'))] })).toBe('UNKNOWN_KEY');
		expect(await whyOf({ signatures: [{ keyid: signer.keyId, sig: new Uint8Array(64) }] })).toBe('SIGNATURE');
		const many = Array.from({ length: 17 }, () => ({ keyid: 'x', sig: new Uint8Array(1) }));
		expect(await whyOf({ signatures: many })).toBe('SIZE');
		expect(await whyOf({ payload: new Uint8Array(4 * 1024 * 1024 + 1) })).toBe('SIZE');
	});

	it('counts distinct keys towards a threshold, not signatures', async () => {
		const second = generateSigner('ed25519');
		const one = await sealed();
		const two = await signDsse(TYPE, one.payload, second);
		const both = { payloadType: TYPE, keys: [keyOf(signer), keyOf(second)], threshold: 2 };
		const signatures = [...one.signatures, ...two.signatures];
		expect((await verify({ ...one, signatures }, both)).kind).toBe('ok');
		const twice = { ...one, signatures: [...one.signatures, ...one.signatures] };
		expect((await verify(twice, both)).kind).toBe('refused');
		const none = async () => await verify({ ...one, signatures: [] }, { ...both, threshold: 0 });
		await expect(none()).rejects.toThrow('unsigned');
	});
});
