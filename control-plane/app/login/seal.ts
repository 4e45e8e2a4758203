import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Rng } from '../../../kit/ids.ts';

/** AES-256-GCM under a key outside the database, bound to what it is for: a row copied elsewhere doesn't open. */
export class Sealer {
	readonly #key: Uint8Array;
	readonly #rng: Rng;

	constructor(key: Uint8Array, rng: Rng) {
		this.#key = key;
		this.#rng = rng;
	}

	seal(purpose: string, text: string): Uint8Array {
		const nonce = this.#rng.bytes(12);
		const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(purpose));
		const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
		return Buffer.concat([nonce, cipher.getAuthTag(), body]);
	}

	/** Text that only we can make for this purpose. */
	mac(purpose: string): string {
		return createHmac('sha256', this.#key).update(purpose).digest('base64url');
	}

	/** Undefined when it was sealed for something else, by another key, or was changed. */
	open(purpose: string, sealed: Uint8Array): string | undefined {
		try {
			const bytes = Buffer.from(sealed);
			const decipher = createDecipheriv('aes-256-gcm', this.#key, bytes.subarray(0, 12)).setAAD(Buffer.from(purpose));
			decipher.setAuthTag(bytes.subarray(12, 28));
			return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString('utf8');
		} catch {
			return undefined;
		}
	}
}
