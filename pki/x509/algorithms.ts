import type { SignatureAlgorithm } from '../verify/signature.ts';
import { der, TAG } from './der.ts';

/** Signature algorithms in X.509: RFC 5758 section 3.2 (ECDSA) and RFC 8410 section 3 (Ed25519), no parameters. */
export const SIGNATURE_OID: Readonly<Record<SignatureAlgorithm, string>> = {
	ed25519: '1.3.101.112',
	'ecdsa-p256-sha256': '1.2.840.10045.4.3.2',
	'ecdsa-p384-sha384': '1.2.840.10045.4.3.3',
};

const OID_CONTENT: Readonly<Record<SignatureAlgorithm, string>> = {
	ed25519: '2b6570',
	'ecdsa-p256-sha256': '2a8648ce3d040302',
	'ecdsa-p384-sha384': '2a8648ce3d040303',
};

/** AlgorithmIdentifier, DER. */
export function signatureAlgorithmDer(algorithm: SignatureAlgorithm): Uint8Array {
	return der(TAG.sequence, der(TAG.oid, Buffer.from(OID_CONTENT[algorithm], 'hex')));
}
