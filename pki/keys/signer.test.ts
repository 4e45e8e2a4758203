import { createPublicKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { VerifyKey } from '../verify/signature.ts';
import { ed25519SignerFromSeed, generateSigner } from './signer.ts';
import { signerContract } from './signer-contract.ts';

for (const algorithm of ['ed25519', 'ecdsa-p256-sha256', 'ecdsa-p384-sha384'] as const) {
	signerContract(
		`in memory, ${algorithm}`,
		async () => generateSigner(algorithm),
		async (first) => first,
	);
}

describe('ed25519SignerFromSeed', () => {
	it('agrees with RFC 8032 section 7.1, test 2', () => {
		const seed = Buffer.from('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb', 'hex');
		const signer = ed25519SignerFromSeed(seed);
		expect(Buffer.from(signer.spki().subarray(-32)).toString('hex')).toBe(
			'3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
		);
		expect(Buffer.from(signer.signSync(Uint8Array.of(0x72))).toString('hex')).toBe(
			'92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
		);
	});

	it('signs the same bytes the same way, synchronously', () => {
		const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(9));
		expect(signer.signSync(Buffer.from('x'))).toEqual(signer.signSync(Buffer.from('x')));
	});

	it('refuses a seed of another length', () => {
		expect(() => ed25519SignerFromSeed(new Uint8Array(31))).toThrow('32 bytes');
	});
});

describe('VerifyKey.parse', () => {
	it('refuses what has a second form, so that one key has one id', () => {
		const spki = generateSigner('ecdsa-p256-sha256').spki();
		expect(VerifyKey.parse(spki)).toBeDefined();
		expect(VerifyKey.parse(Buffer.concat([spki, Uint8Array.of(0)]))).toBeUndefined();
		const point = spki.subarray(-65);
		const compressed = Buffer.concat([
			Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
			Uint8Array.of((point[64] ?? 0) & 1 ? 3 : 2),
			point.subarray(1, 33),
		]);
		// The control: node:crypto itself takes the compressed point.
		expect(createPublicKey({ key: compressed, format: 'der', type: 'spki' }).asymmetricKeyType).toBe('ec');
		expect(VerifyKey.parse(compressed)).toBeUndefined();
	});

	it('refuses what is no key', () => {
		expect(VerifyKey.parse(new Uint8Array(0))).toBeUndefined();
		expect(VerifyKey.parse(Buffer.from('not DER'))).toBeUndefined();
	});
});
