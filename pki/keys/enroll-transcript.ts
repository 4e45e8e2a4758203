import { assert } from '../../kit/assert.ts';
import { sha256, VerifyKey } from '../verify/signature.ts';
import type { Signer } from './signer.ts';

/**
 * The bytes that bind an enrollment to one TLS 1.3 channel; both ends compute them, none are sent. `exporter` is the
 * RFC 9266 channel binding: label `EXPORTER-Channel-Binding`, empty context, 32 bytes. Behind an L7 proxy the two ends
 * have different channels, so the signatures don't verify: that is meant.
 */
export const EXPORTER_LABEL = 'EXPORTER-Channel-Binding';
export const EXPORTER_BYTES = 32;
export const ENROLL_NONCE_BYTES = 32;

/** What Begin signs, with the token's key or (recovery) with the key of the expired certificate. */
export function enrollHelloTranscript(hello: {
	readonly exporter: Uint8Array;
	/** Join token id, or for recovery the join-state JWS. */
	readonly tokenId: string;
	readonly csrDer: Uint8Array;
}): Uint8Array {
	assert(hello.exporter.length === EXPORTER_BYTES, 'an RFC 9266 exporter has 32 bytes');
	return framed('gpuaas-enroll-hello-v1', hello.exporter, Buffer.from(hello.tokenId, 'utf8'), hello.csrDer);
}

/** SHA-256("gpuaas-enroll-v1" || nonce || exporter || spkiSha256); unambiguous because every part has a fixed length. */
export function enrollProofDigest(proof: {
	readonly nonce: Uint8Array;
	readonly exporter: Uint8Array;
	/** SHA-256 of the CSR's SPKI DER. */
	readonly spkiSha256: Uint8Array;
}): Uint8Array {
	assert(proof.nonce.length === ENROLL_NONCE_BYTES, 'an enrollment nonce has 32 bytes');
	assert(proof.exporter.length === EXPORTER_BYTES, 'an RFC 9266 exporter has 32 bytes');
	assert(proof.spkiSha256.length === 32, 'a SHA-256 has 32 bytes');
	return sha256(Buffer.from('gpuaas-enroll-v1', 'ascii'), proof.nonce, proof.exporter, proof.spkiSha256);
}

export function signTranscript(signer: Signer, transcript: Uint8Array): Promise<Uint8Array> {
	return signer.sign(transcript);
}

/** False for a wrong signature and for a key that isn't one of ours; never throws. */
export function verifyTranscript(spki: Uint8Array, transcript: Uint8Array, signature: Uint8Array): boolean {
	return VerifyKey.parse(spki)?.verify(transcript, signature) ?? false;
}

/** Every part behind its length, so that no two lists of parts have the same bytes. */
function framed(label: string, ...parts: readonly Uint8Array[]): Uint8Array {
	const pieces: Uint8Array[] = [];
	for (const part of [Buffer.from(label, 'ascii'), ...parts]) {
		const length = Buffer.alloc(4);
		length.writeUInt32BE(part.length);
		pieces.push(length, part);
	}
	return new Uint8Array(Buffer.concat(pieces));
}
