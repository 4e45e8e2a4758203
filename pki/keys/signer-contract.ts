import { createPublicKey, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { digestOf, keyIdOf, VerifyKey } from '../verify/signature.ts';
import type { Signer } from './signer.ts';

/**
 * What every Signer must do, whatever holds its key. A driver's test calls this once per algorithm it offers.
 * `reopen` gives a second handle on the same key, as after a restart; drivers of volatile keys return the first one.
 */
export function signerContract(
	name: string,
	open: () => Promise<Signer>,
	reopen: (first: Signer) => Promise<Signer>,
): void {
	describe(`signer contract: ${name}`, () => {
		it('names its key by the SHA-256 of a canonical SPKI', async () => {
			const signer = await open();
			const key = VerifyKey.parse(signer.spki());
			expect(key?.keyId).toBe(signer.keyId);
			expect(key?.algorithm).toBe(signer.algorithm);
			expect(signer.keyId).toBe(keyIdOf(signer.spki()));
			expect(['software', 'hsm']).toContain(signer.custody);
		});

		it('signs what node:crypto verifies, and only those bytes', async () => {
			const signer = await open();
			const bytes = Buffer.from('the exact bytes');
			const signature = await signer.sign(bytes);
			const key = createPublicKey({ key: Buffer.from(signer.spki()), format: 'der', type: 'spki' });
			expect(verify(digestOf(signer.algorithm), bytes, key, signature)).toBe(true);
			expect(verify(digestOf(signer.algorithm), Buffer.from('the exact bytez'), key, signature)).toBe(false);
			const flipped = signature.slice();
			flipped[flipped.length - 1] = (flipped[flipped.length - 1] ?? 0) ^ 1;
			expect(VerifyKey.parse(signer.spki())?.verify(bytes, flipped)).toBe(false);
		});

		it('signs empty and large inputs', async () => {
			const signer = await open();
			const key = VerifyKey.parse(signer.spki());
			for (const bytes of [new Uint8Array(0), new Uint8Array(1 << 20).fill(7)]) {
				expect(key?.verify(bytes, await signer.sign(bytes))).toBe(true);
			}
		});

		it('does not let a caller change its public key', async () => {
			const signer = await open();
			signer.spki().fill(0);
			expect(keyIdOf(signer.spki())).toBe(signer.keyId);
		});

		it('is the same key when reopened', async () => {
			const first = await open();
			const second = await reopen(first);
			expect(second.keyId).toBe(first.keyId);
			const bytes = Buffer.from('after a restart');
			expect(VerifyKey.parse(first.spki())?.verify(bytes, await second.sign(bytes))).toBe(true);
		});

		it('shows no private key when it is printed or serialised', async () => {
			const signer = await open();
			expect(`${JSON.stringify(signer)} ${String(signer)}`).not.toMatch(/PRIVATE|privateKey/);
		});
	});
}
