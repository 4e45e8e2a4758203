import { isSignedBy } from '../trust/chain.ts';
import { parseSpiffeId } from '../trust/spiffe.ts';
import { parseCertificate } from '../x509/parse.ts';
import { type DsseEnvelope, type DsseResult, verifyDsse } from './dsse.ts';
import { sha256, VerifyKey } from './signature.ts';

/**
 * The signed documents of a task, as far as signatures go: envelope (signed by the control plane's task signer),
 * receipt (by the node's own key), closing (by the task signer, for a task that the server ended). What is inside is
 * gpuaas.link.v1; whoever decodes it compares `envelope_sha256` of a receipt with `payloadSha256(envelope)`.
 */
/** DSSE payload type of link.v1.ChannelGrant; signed by the same key as tasks. */
export const CHANNEL_GRANT_TYPE = 'application/vnd.gpuaas.channel-grant.v1+protobuf';
export const TASK_ENVELOPE_TYPE = 'application/vnd.gpuaas.task-envelope.v1+protobuf';
export const TASK_RECEIPT_TYPE = 'application/vnd.gpuaas.task-receipt.v1+protobuf';
export const TASK_CLOSING_TYPE = 'application/vnd.gpuaas.task-closing.v1+protobuf';

/** Links a receipt to the envelope that it answers. */
export function payloadSha256(envelope: DsseEnvelope): Uint8Array {
	return sha256(envelope.payload);
}

export type ReceiptResult =
	| {
			readonly kind: 'ok';
			readonly payload: Uint8Array;
			/** From the certificate; equals the payload's `node_id` in an honest receipt. */
			readonly nodeId: string;
			readonly certificate: { readonly serialHex: string; readonly notBeforeMs: number; readonly notAfterMs: number };
	  }
	| { readonly kind: 'refused'; readonly message: string };

export interface ReceiptTrust {
	/** Leaf of the node at the time, DER, as the control plane kept it. */
	readonly nodeCertificateDer: Uint8Array;
	/** SPKIs of node CAs that the verifier trusts, past ones too: a receipt outlives the CA that named its signer. */
	readonly nodeCaSpkis: readonly Uint8Array[];
	readonly trustDomain: string;
}

/**
 * Whether a node of this trust domain signed this receipt. It doesn't look at the clock: the caller compares the
 * certificate's validity with the times in the receipt, and says which it believes.
 */
export function verifyTaskReceipt(receipt: DsseEnvelope, trust: ReceiptTrust): ReceiptResult {
	const parsed = parseCertificate(trust.nodeCertificateDer);
	if (parsed.kind === 'malformed')
		return { kind: 'refused', message: `the certificate can't be read (${parsed.detail})` };
	const { certificate } = parsed;
	const issuer = trust.nodeCaSpkis
		.map((spki) => VerifyKey.parse(spki))
		.find((key) => key && isSignedBy(certificate, key));
	if (!issuer) return { kind: 'refused', message: 'the certificate was issued by no trusted node CA' };
	const named = certificate.uriSans.length === 1 ? parseSpiffeId(certificate.uriSans[0] ?? '') : undefined;
	if (certificate.isCa || named?.kind !== 'node' || named.trustDomain !== trust.trustDomain) {
		return { kind: 'refused', message: `the certificate is not one of a node of ${trust.trustDomain}` };
	}
	const key = VerifyKey.parse(certificate.spki);
	const verified: DsseResult = verifyDsse(receipt, { payloadType: TASK_RECEIPT_TYPE, keys: key ? [key] : [] });
	if (verified.kind === 'refused') return { kind: 'refused', message: verified.message };
	const { serialHex, notBeforeMs, notAfterMs } = certificate;
	return {
		kind: 'ok',
		payload: verified.payload,
		nodeId: named.id,
		certificate: { serialHex, notBeforeMs, notAfterMs },
	};
}
