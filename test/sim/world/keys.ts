import { createECDH, createHash } from 'node:crypto';
import type { KeyStore } from '../../../control-plane/app/certificates/issuing-set.ts';
import { assert, present } from '../../../kit/assert.ts';
import { ed25519SignerFromSeed, type SyncSigner } from '../../../pki/keys/signer.ts';
import { digestOf, keyIdOf, type SignatureAlgorithm } from '../../../pki/verify/signature.ts';
import { der, TAG } from '../../../pki/x509/der.ts';

/**
 * Keys made from the seed whose signatures are the same bytes in every run. Ed25519 is so by itself; OpenSSL's ECDSA
 * draws a nonce of its own, so node and CA keys sign here with a nonce derived from key and message, as RFC 6979 has
 * it. Slow and not constant-time: nothing but a simulation may sign with it.
 */
export function simSigner(seed: string, algorithm: SignatureAlgorithm): SyncSigner {
	const name = `${algorithm} ${seed}`;
	const known = signers.get(name);
	if (known !== undefined) return known;
	const made =
		algorithm === 'ed25519' ? ed25519SignerFromSeed(sha('sha256', seed)) : new DeterministicEcdsa(seed, algorithm);
	signers.set(name, made);
	return made;
}

/** The same few names in every run, and a key costs as much as ten signatures. */
const signers = new Map<string, SyncSigner>();

/** `<data>/keys` of a simulated control plane: survives its crashes. */
export class SimKeyStore implements KeyStore {
	readonly #keys = new Map<string, SyncSigner>();

	/** `from`: what another control plane has in its folder. */
	constructor(from?: SimKeyStore) {
		if (from !== undefined) for (const [name, signer] of from.#keys) this.#keys.set(name, signer);
	}

	load(name: string): SyncSigner | undefined {
		return this.#keys.get(name);
	}

	loadOrCreate(name: string, algorithm: SignatureAlgorithm): SyncSigner {
		const known = this.#keys.get(name);
		if (known !== undefined) return known;
		const made = simSigner(`control plane/${name}`, algorithm);
		this.#keys.set(name, made);
		return made;
	}
}

function sha(algorithm: 'sha256' | 'sha384' | 'sha512', ...parts: readonly (string | Uint8Array)[]): Uint8Array {
	const hash = createHash(algorithm);
	for (const part of parts) hash.update(part);
	return new Uint8Array(hash.digest());
}

interface Curve {
	readonly name: string;
	readonly bytes: number;
	readonly p: bigint;
	readonly n: bigint;
	readonly gx: bigint;
	readonly gy: bigint;
	readonly spkiPrefix: string;
}

/** FIPS 186-4 appendix D.1.2; both have a = -3. */
const CURVES: Readonly<Record<Exclude<SignatureAlgorithm, 'ed25519'>, Curve>> = {
	'ecdsa-p256-sha256': {
		name: 'prime256v1',
		bytes: 32,
		p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
		n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
		gx: 0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296n,
		gy: 0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5n,
		spkiPrefix: '3059301306072a8648ce3d020106082a8648ce3d030107034200',
	},
	'ecdsa-p384-sha384': {
		name: 'secp384r1',
		bytes: 48,
		p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
		n: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
		gx: 0xaa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7n,
		gy: 0x3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5fn,
		spkiPrefix: '3076301006072a8648ce3d020106052b81040022036200',
	},
};

class DeterministicEcdsa implements SyncSigner {
	readonly keyId: string;
	readonly algorithm: Exclude<SignatureAlgorithm, 'ed25519'>;
	readonly custody = 'software';
	readonly #curve: Curve;
	readonly #secret: bigint;
	readonly #spki: Uint8Array;

	constructor(seed: string, algorithm: Exclude<SignatureAlgorithm, 'ed25519'>) {
		const curve = CURVES[algorithm];
		this.algorithm = algorithm;
		this.#curve = curve;
		this.#secret = 1n + (integer(sha('sha512', seed)) % (curve.n - 1n));
		const ecdh = createECDH(curve.name);
		ecdh.setPrivateKey(bytesOf(this.#secret, curve.bytes));
		this.#spki = new Uint8Array(Buffer.concat([Buffer.from(curve.spkiPrefix, 'hex'), ecdh.getPublicKey()]));
		this.keyId = keyIdOf(this.#spki);
	}

	spki(): Uint8Array {
		return this.#spki.slice();
	}

	sign(bytes: Uint8Array): Promise<Uint8Array> {
		return Promise.resolve(this.signSync(bytes));
	}

	signSync(bytes: Uint8Array): Uint8Array {
		const { n, bytes: size } = this.#curve;
		const digest = sha(present(digestOf(this.algorithm), 'ECDSA has a digest'), bytes);
		const secretBytes = bytesOf(this.#secret, size);
		const nonce = 1n + (integer(sha('sha512', secretBytes, digest)) % (n - 1n));
		const r = timesBase(this.#curve, nonce) % n;
		const s = (inverse(nonce, n) * (integer(digest) + r * this.#secret)) % n;
		assert(r !== 0n && s !== 0n, 'a nonce in 2^256 gives zero');
		return der(TAG.sequence, der(TAG.integer, positive(r)), der(TAG.integer, positive(s)));
	}
}

/** Jacobian coordinates; the base point's multiples by every 4-bit digit are kept affine, one table a curve. */
type Affine = readonly [bigint, bigint];
const tables = new Map<Curve, readonly (readonly Affine[])[]>();

/** The x of k * G. */
function timesBase(curve: Curve, k: bigint): bigint {
	const { p } = curve;
	let table = tables.get(curve);
	if (table === undefined) {
		table = makeTable(curve);
		tables.set(curve, table);
	}
	let [x, y, z] = [1n, 1n, 0n];
	let rest = k;
	for (const window of table) {
		const digit = Number(rest & 15n);
		rest >>= 4n;
		const point = window[digit - 1];
		if (point !== undefined) [x, y, z] = addAffine(p, [x, y, z], point);
	}
	const zInverse = inverse(z, p);
	return (x * zInverse * zInverse) % p;
}

function makeTable(curve: Curve): readonly (readonly Affine[])[] {
	const { p, bytes } = curve;
	const table: Affine[][] = [];
	let base: Affine = [curve.gx, curve.gy];
	for (let window = 0; window < bytes * 2; window += 1) {
		const multiples: Affine[] = [base];
		for (let digit = 2; digit <= 15; digit += 1) {
			const last = present(multiples[digit - 2], 'the multiple below');
			multiples.push(affine(p, digit === 2 ? double(p, [...base, 1n]) : addAffine(p, [...last, 1n], base)));
		}
		table.push(multiples);
		const last = present(multiples[14], 'fifteen multiples');
		base = affine(p, addAffine(p, [...last, 1n], base));
	}
	return table;
}

type Jacobian = readonly [bigint, bigint, bigint];

function double(p: bigint, [x, y, z]: Jacobian): [bigint, bigint, bigint] {
	const yy = (y * y) % p;
	const s = (4n * x * yy) % p;
	const zz = (z * z) % p;
	const m = (3n * (x - zz) * (x + zz)) % p;
	const x3 = mod(m * m - 2n * s, p);
	return [x3, mod(m * (s - x3) - 8n * yy * yy, p), mod(2n * y * z, p)];
}

function addAffine(p: bigint, [x1, y1, z1]: Jacobian, [x2, y2]: Affine): [bigint, bigint, bigint] {
	if (z1 === 0n) return [x2, y2, 1n];
	const zz = (z1 * z1) % p;
	const h = mod(x2 * zz - x1, p);
	const r = mod(y2 * zz * z1 - y1, p);
	assert(h !== 0n, 'equal points are doubled, not added');
	const hh = (h * h) % p;
	const hhh = (h * hh) % p;
	const v = (x1 * hh) % p;
	const x3 = mod(r * r - hhh - 2n * v, p);
	return [x3, mod(r * (v - x3) - y1 * hhh, p), (z1 * h) % p];
}

function affine(p: bigint, [x, y, z]: Jacobian): Affine {
	const zInverse = inverse(z, p);
	const zz = (zInverse * zInverse) % p;
	return [(x * zz) % p, (y * zz * zInverse) % p];
}

function mod(value: bigint, p: bigint): bigint {
	const rest = value % p;
	return rest < 0n ? rest + p : rest;
}

function inverse(value: bigint, p: bigint): bigint {
	let [a, b, x, y] = [mod(value, p), p, 1n, 0n];
	while (b !== 0n) {
		const quotient = a / b;
		[a, b, x, y] = [b, a - quotient * b, y, x - quotient * y];
	}
	return mod(x, p);
}

function integer(bytes: Uint8Array): bigint {
	return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function bytesOf(value: bigint, length: number): Uint8Array {
	return new Uint8Array(Buffer.from(value.toString(16).padStart(length * 2, '0'), 'hex'));
}

/** DER: a leading zero where the first bit would mean a negative number, none elsewhere. */
function positive(value: bigint): Uint8Array {
	const digits = value.toString(16);
	const bytes = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
	return (bytes[0] ?? 0) > 0x7f ? new Uint8Array([0, ...bytes]) : new Uint8Array(bytes);
}
