import 'reflect-metadata';
import {
	AuthorityKeyIdentifierExtension,
	BasicConstraintsExtension,
	ExtendedKeyUsageExtension,
	type Extension,
	KeyUsageFlags,
	KeyUsagesExtension,
	type Name,
	PublicKey,
	SubjectAlternativeNameExtension,
	SubjectKeyIdentifierExtension,
	X509Certificate,
	X509CertificateGenerator,
} from '@peculiar/x509';
import { assert } from '../../kit/assert.ts';
import { hex, type Rng } from '../../kit/ids.ts';
import type { Signer } from '../keys/signer.ts';
import { keyIdOf, type SignatureAlgorithm } from '../verify/signature.ts';
import { signatureAlgorithmDer } from './algorithms.ts';
import { bitString, DerReader, der, TAG } from './der.ts';

/**
 * Makes certificates. The library encodes them with an empty signature, our `Signer` signs the exact to-be-signed
 * bytes, and the two are put together: so any key store works, and no WebCrypto key exists. Called by pki/ca only.
 *
 * Key identifiers are our key ids (SHA-256 of the SPKI, RFC 7093 section 2 method 4).
 */
export interface CertificateFields {
	readonly serialHex: string;
	/** RFC 4514 text; empty for leaves, whose name is in the SAN (then critical, RFC 5280 section 4.2.1.6). */
	readonly subject: string;
	readonly spki: Uint8Array;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
	/** pathLen of a CA; undefined for a leaf. */
	readonly caPathLength?: number;
	readonly ekus: readonly string[];
	readonly sans: readonly SubjectAltName[];
}

export interface SubjectAltName {
	readonly type: 'url' | 'dns' | 'ip';
	readonly value: string;
}

export interface CertificateSigner {
	readonly signer: Signer;
	/** Certificate of the signing key; undefined makes a self-signed one. */
	readonly certificateDer?: Uint8Array;
}

const ALGORITHM: Readonly<Record<SignatureAlgorithm, { name: string; namedCurve?: string; hash?: string }>> = {
	ed25519: { name: 'Ed25519' },
	'ecdsa-p256-sha256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
	'ecdsa-p384-sha384': { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
};

/** 128 bits, of which 126 are random: positive, of fixed length, and above the 64 bits that RFC-following CAs owe. */
export function randomSerial(rng: Rng): string {
	const bytes = rng.bytes(16);
	bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
	return hex(bytes);
}

export async function makeCertificate(fields: CertificateFields, issuer: CertificateSigner): Promise<Uint8Array> {
	const issuerName = issuer.certificateDer ? subjectNameOf(issuer.certificateDer) : undefined;
	assert(issuerName !== undefined || fields.subject !== '', 'a self-signed certificate needs a subject');
	const template = await X509CertificateGenerator.create({
		serialNumber: fields.serialHex,
		subject: fields.subject,
		issuer: issuerName ?? fields.subject,
		// X.509 times have whole seconds: round the start down and the end down, never granting more than was asked.
		notBefore: new Date(Math.floor(fields.notBeforeMs / 1000) * 1000),
		notAfter: new Date(Math.floor(fields.notAfterMs / 1000) * 1000),
		publicKey: new PublicKey(fields.spki),
		extensions: extensionsOf(fields, issuer.signer.keyId),
		signingAlgorithm: ALGORITHM[issuer.signer.algorithm],
		signature: new Uint8Array(64),
	});
	const tbs = new DerReader(new Uint8Array(template.rawData)).enter(TAG.sequence).next(TAG.sequence).raw;
	const signature = await issuer.signer.sign(tbs);
	return der(TAG.sequence, tbs, signatureAlgorithmDer(issuer.signer.algorithm), bitString(signature));
}

/** Parsing a certificate with the library costs as much as making one, and issuers are few. */
const subjectNames = new WeakMap<Uint8Array, Name>();

function subjectNameOf(certificateDer: Uint8Array): Name {
	const known = subjectNames.get(certificateDer);
	if (known) return known;
	const name = new X509Certificate(certificateDer).subjectName;
	subjectNames.set(certificateDer, name);
	return name;
}

function extensionsOf(fields: CertificateFields, issuerKeyId: string): Extension[] {
	const isCa = fields.caPathLength !== undefined;
	const usage = isCa ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature;
	const extensions: Extension[] = [
		new BasicConstraintsExtension(isCa, fields.caPathLength, true),
		new KeyUsagesExtension(usage, true),
		new SubjectKeyIdentifierExtension(keyIdOf(fields.spki)),
		new AuthorityKeyIdentifierExtension(issuerKeyId),
	];
	if (fields.ekus.length > 0) extensions.push(new ExtendedKeyUsageExtension([...fields.ekus]));
	if (fields.sans.length > 0) {
		extensions.push(new SubjectAlternativeNameExtension([...fields.sans], fields.subject === ''));
	}
	return extensions;
}
