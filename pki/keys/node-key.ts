import { createPrivateKey } from 'node:crypto';
import { GpuaasError } from '../../kit/error.ts';
import { generateSigner, KeyObjectSigner } from './signer.ts';

/**
 * The key of a node's TLS certificate. It is made on the host, stays there (0600), and is in no RPC; TLS needs it as
 * PEM, receipts and proofs of possession need it as a signer. P-256, because a P-384 signature costs 30 times as much
 * at every handshake.
 */
export interface NodeKey {
	/** PKCS#8 PEM: for `tls` and for writePrivateFile, and for nothing else. */
	readonly privateKeyPem: string;
	readonly signer: KeyObjectSigner;
}

export function generateNodeKey(): NodeKey {
	const signer = generateSigner('ecdsa-p256-sha256');
	return { privateKeyPem: signer.exportPkcs8Pem(), signer };
}

/** Reads back what `generateNodeKey` made. */
export function loadNodeKey(privateKeyPem: string): NodeKey {
	try {
		const signer = new KeyObjectSigner(createPrivateKey(privateKeyPem));
		if (signer.algorithm === 'ecdsa-p256-sha256') return { privateKeyPem, signer };
	} catch (error) {
		throw invalid(error);
	}
	throw invalid(undefined);
}

function invalid(cause: unknown): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'KEY_FILE_INVALID',
		message: 'the stored node key is not a P-256 private key; restore it, or enroll this host again with a new token',
		cause,
	});
}
