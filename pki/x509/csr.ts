import type { SyncSigner } from '../keys/signer.ts';
import { type SignatureAlgorithm, VerifyKey } from '../verify/signature.ts';
import { SIGNATURE_OID, signatureAlgorithmDer } from './algorithms.ts';
import { bitString, bitStringBytes, DerError, DerReader, der, oidText, TAG } from './der.ts';

/**
 * PKCS#10 (RFC 2986) as a carrier of two things: a public key, and the proof that the sender holds its private half.
 * Everything else that a request may say (subject, names, extensions) is skipped unread: who the sender is comes from
 * how it authenticated.
 */
const CSR_BYTES_MAX = 8192;

/** Agent side: an empty subject, no attributes. */
export function createCsr(signer: SyncSigner): Uint8Array {
	const info = der(TAG.sequence, der(TAG.integer, Uint8Array.of(0)), der(TAG.sequence), signer.spki(), der(0xa0));
	return der(TAG.sequence, info, signatureAlgorithmDer(signer.algorithm), bitString(signer.signSync(info)));
}

export type CsrResult =
	| { readonly kind: 'ok'; readonly key: VerifyKey }
	| { readonly kind: 'refused'; readonly reason: 'CSR_INVALID'; readonly message: string };

function refused(detail: string): CsrResult {
	return {
		kind: 'refused',
		reason: 'CSR_INVALID',
		message: `the certificate request can't be used: ${detail}; make a new key and request on the host`,
	};
}

/** Server side: the key of a request whose proof of possession holds, when its algorithm is in `algorithms`. */
export function verifyCsr(
	raw: Uint8Array,
	algorithms: readonly SignatureAlgorithm[] = ['ecdsa-p256-sha256'],
): CsrResult {
	if (raw.length > CSR_BYTES_MAX) return refused(`it is longer than ${CSR_BYTES_MAX} bytes`);
	try {
		const outer = new DerReader(raw);
		const request = outer.enter(TAG.sequence);
		outer.end();
		const info = request.next(TAG.sequence);
		const signatureOid = oidText(request.enter(TAG.sequence).next(TAG.oid).content);
		const signature = bitStringBytes(request.next(TAG.bitString));
		request.end();
		const fields = new DerReader(info.content);
		const version = fields.next(TAG.integer).content;
		if (version.length !== 1 || version[0] !== 0) return refused('its version is not 1');
		fields.next(TAG.sequence);
		const key = VerifyKey.parse(fields.next(TAG.sequence).raw);
		if (!key || !algorithms.includes(key.algorithm)) return refused(`its key is not one of ${algorithms.join(', ')}`);
		if (signatureOid !== SIGNATURE_OID[key.algorithm]) return refused(`it is not signed with ${key.algorithm}`);
		if (!key.verify(info.raw, signature)) return refused('its signature was not made by the key in it');
		return { kind: 'ok', key };
	} catch (error) {
		if (error instanceof DerError) return refused(`it is not PKCS#10 DER (${error.message})`);
		throw error;
	}
}
