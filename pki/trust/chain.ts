import { keyIdOf, type VerifyKey } from '../verify/signature.ts';
import { SIGNATURE_OID } from '../x509/algorithms.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/parse.ts';

/**
 * The two questions about chains that TLS doesn't answer for us. This is no path validation (OpenSSL does that in TLS):
 * one link by a key that the caller already trusts, and the root that a join token pinned.
 */

/** Whether `key` made the signature of `certificate`, with the algorithm that the certificate names. */
export function isSignedBy(certificate: ParsedCertificate, key: VerifyKey): boolean {
	if (certificate.issuerKeyIdHex !== key.keyId) return false;
	if (certificate.signatureAlgorithm !== SIGNATURE_OID[key.algorithm]) return false;
	return key.verify(certificate.tbs, certificate.signature);
}

/**
 * Enrollment: the CA certificate in the listener's unauthenticated chain whose SPKI the token pins. The agent then
 * connects again, strictly, with it as the only root: nothing that came before may be believed.
 */
export function findPinnedCa(chainDer: readonly Uint8Array[], pins: readonly string[]): Uint8Array | undefined {
	return chainDer.find((raw) => {
		const parsed = parseCertificate(raw);
		return parsed.kind === 'ok' && parsed.certificate.isCa && pins.includes(keyIdOf(parsed.certificate.spki));
	});
}
