import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { assert, present } from '../../kit/assert.ts';
import { algorithmOf, digestOf, type SignatureAlgorithm, VerifyKey } from '../verify/signature.ts';

/**
 * Whoever holds a private key is a `Signer`; nothing else in the product sees key bytes. Drivers: file.ts (software
 * keys on disk) and, later, PKCS#11 and KMS, all under signer-contract.ts. One signer has one role: root, issuing CA,
 * replica CA, task envelopes, audit heads, join state, node identity.
 *
 * `custody` is what the driver knows about where the key lives. It is recorded, never guessed: a software token
 * behind PKCS#11 is `software`.
 */
export type Custody = 'software' | 'hsm';

export interface Signer {
	/** Hex SHA-256 of the SPKI DER. */
	readonly keyId: string;
	readonly algorithm: SignatureAlgorithm;
	readonly custody: Custody;
	/** SubjectPublicKeyInfo, DER. */
	spki(): Uint8Array;
	/** Ed25519: 64 bytes. ECDSA: DER `Ecdsa-Sig-Value` over the algorithm's digest of `bytes`. */
	sign(bytes: Uint8Array): Promise<Uint8Array>;
}

/**
 * A signer that needs no I/O. The simulation takes Ed25519 ones: their signatures are deterministic and their
 * promises are already settled, so that each run of a seed gives one trace.
 */
export interface SyncSigner extends Signer {
	signSync(bytes: Uint8Array): Uint8Array;
}

/** A key in this process's memory (node:crypto, never WebCrypto). */
export class KeyObjectSigner implements SyncSigner {
	readonly keyId: string;
	readonly algorithm: SignatureAlgorithm;
	readonly custody = 'software';
	readonly #privateKey: KeyObject;
	readonly #spki: Uint8Array;

	constructor(privateKey: KeyObject) {
		assert(privateKey.type === 'private', 'a signer needs a private key');
		this.algorithm = present(algorithmOf(privateKey), 'a signing key is Ed25519, P-256 or P-384');
		this.#privateKey = privateKey;
		this.#spki = new Uint8Array(createPublicKey(privateKey).export({ format: 'der', type: 'spki' }));
		this.keyId = present(VerifyKey.parse(this.#spki), 'a signing key has an uncompressed point').keyId;
	}

	spki(): Uint8Array {
		return this.#spki.slice();
	}

	signSync(bytes: Uint8Array): Uint8Array {
		return new Uint8Array(sign(digestOf(this.algorithm), bytes, this.#privateKey));
	}

	sign(bytes: Uint8Array): Promise<Uint8Array> {
		return Promise.resolve(this.signSync(bytes));
	}

	/** For the file driver and the agent's identity store only: the caller writes it 0600 and nowhere else. */
	exportPkcs8Pem(): string {
		return this.#privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
	}
}

const CURVE = { 'ecdsa-p256-sha256': 'P-256', 'ecdsa-p384-sha384': 'P-384' } as const;

export function generateSigner(algorithm: SignatureAlgorithm): KeyObjectSigner {
	const { privateKey } =
		algorithm === 'ed25519'
			? generateKeyPairSync('ed25519')
			: generateKeyPairSync('ec', { namedCurve: CURVE[algorithm] });
	return new KeyObjectSigner(privateKey);
}

/** RFC 8410 section 7: everything of an Ed25519 PKCS#8 before the seed. */
const ED25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** `seed` is the 32-byte private key of RFC 8032. */
export function ed25519SignerFromSeed(seed: Uint8Array): KeyObjectSigner {
	assert(seed.length === 32, 'an Ed25519 seed has 32 bytes');
	const key = Buffer.concat([ED25519_PKCS8_PREFIX, seed]);
	return new KeyObjectSigner(createPrivateKey({ key, format: 'der', type: 'pkcs8' }));
}
