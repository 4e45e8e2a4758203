import { createHash, createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { hex } from '../../kit/ids.ts';

/**
 * Signature verification with node:crypto alone. Everything in `pki/verify` can be given to somebody who trusts
 * neither the control plane nor its libraries: it needs public keys and bytes, no key store, clock or network.
 * The CLI, the agent and the control plane call it; `pki/keys` builds the signing side on the same types.
 *
 * One name for a key everywhere: `keyId` is the hex SHA-256 of its SPKI DER. It is also the subject and authority key
 * identifier in our certificates (RFC 7093 section 2, method 4), the DSSE `keyid` and the pin in a join token.
 */
export type SignatureAlgorithm = 'ed25519' | 'ecdsa-p256-sha256' | 'ecdsa-p384-sha384';

export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
	const [only] = parts;
	if (only !== undefined && parts.length === 1) return new Uint8Array(hash('sha256', only, 'buffer'));
	const whole = createHash('sha256');
	for (const part of parts) whole.update(part);
	return new Uint8Array(whole.digest());
}

/** Hex SHA-256 of an SPKI DER. */
export function keyIdOf(spki: Uint8Array): string {
	return hex(sha256(spki));
}

/** Which of our algorithms a key signs with; undefined for keys that we don't use (RSA, other curves). */
export function algorithmOf(key: KeyObject): SignatureAlgorithm | undefined {
	if (key.asymmetricKeyType === 'ed25519') return 'ed25519';
	if (key.asymmetricKeyType !== 'ec') return undefined;
	const curve = key.asymmetricKeyDetails?.namedCurve;
	if (curve === 'prime256v1') return 'ecdsa-p256-sha256';
	return curve === 'secp384r1' ? 'ecdsa-p384-sha384' : undefined;
}

/** The digest name that node:crypto wants; Ed25519 hashes by itself. */
export function digestOf(algorithm: SignatureAlgorithm): 'sha256' | 'sha384' | null {
	if (algorithm === 'ed25519') return null;
	return algorithm === 'ecdsa-p256-sha256' ? 'sha256' : 'sha384';
}

/**
 * The one SPKI form that we accept of each algorithm: named curve, uncompressed point. OpenSSL also takes compressed
 * and hybrid points, which would give one key several key ids, and so a way past a denylist.
 */
const SPKI_FORM: Readonly<Record<SignatureAlgorithm, { readonly prefix: Buffer; readonly bytes: number }>> = {
	ed25519: { prefix: Buffer.from('302a300506032b6570032100', 'hex'), bytes: 44 },
	'ecdsa-p256-sha256': {
		prefix: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
		bytes: 91,
	},
	'ecdsa-p384-sha384': {
		prefix: Buffer.from('3076301006072a8648ce3d020106052b8104002203620004', 'hex'),
		bytes: 120,
	},
};

/** A public key that may verify. ECDSA signatures are DER `Ecdsa-Sig-Value`, as OpenSSL and X.509 have them. */
export class VerifyKey {
	readonly keyId: string;
	readonly algorithm: SignatureAlgorithm;
	readonly #spki: Uint8Array;
	readonly #key: KeyObject;

	private constructor(key: KeyObject, algorithm: SignatureAlgorithm, spki: Uint8Array) {
		this.#key = key;
		this.#spki = spki;
		this.algorithm = algorithm;
		this.keyId = keyIdOf(spki);
	}

	/** Undefined for anything but the accepted SPKI DER of a supported key. */
	static parse(spki: Uint8Array): VerifyKey | undefined {
		try {
			const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
			const algorithm = algorithmOf(key);
			if (algorithm === undefined) return undefined;
			const { prefix, bytes } = SPKI_FORM[algorithm];
			if (spki.length !== bytes || !prefix.equals(spki.subarray(0, prefix.length))) return undefined;
			return new VerifyKey(key, algorithm, spki.slice());
		} catch {
			return undefined;
		}
	}

	spki(): Uint8Array {
		return this.#spki.slice();
	}

	verify(bytes: Uint8Array, signature: Uint8Array): boolean {
		return verify(digestOf(this.algorithm), bytes, this.#key, signature);
	}

	/** The same on a thread of Node's pool. */
	verifyOnThread(bytes: Uint8Array, signature: Uint8Array): Promise<boolean> {
		return new Promise((resolve, reject) => {
			verify(digestOf(this.algorithm), bytes, this.#key, signature, (error, holds) => {
				if (error === null) resolve(holds);
				else reject(error);
			});
		});
	}
}
