import { assert } from '../../kit/assert.ts';
import type { Signer, SyncSigner } from '../keys/signer.ts';
import type { VerifyKey } from './signature.ts';

/**
 * DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md): a signature over exact bytes and what they mean. The
 * payload is never re-encoded; parse only the bytes that `verifyDsse` returns. The shape is that of
 * gpuaas.common.v1.DsseEnvelope, so messages pass in and out as they are.
 */
export interface DsseSignature {
	/** Hex SHA-256 of the signer's SPKI. A hint: it selects a trusted key and is never believed. */
	readonly keyid: string;
	readonly sig: Uint8Array;
}

export interface DsseEnvelope {
	readonly payloadType: string;
	readonly payload: Uint8Array;
	readonly signatures: readonly DsseSignature[];
}

export interface SignedDsse {
	payloadType: string;
	payload: Uint8Array;
	signatures: { keyid: string; sig: Uint8Array }[];
}

/** Above the largest envelope, a task of 1 MiB of arguments, with room. */
export const DSSE_PAYLOAD_BYTES_MAX = 4 * 1024 * 1024;
export const DSSE_SIGNATURES_MAX = 16;

/** Pre-authentication encoding: `DSSEv1 SP LEN(type) SP type SP LEN(body) SP body`. */
export function dssePae(payloadType: string, payload: Uint8Array): Uint8Array {
	const type = Buffer.from(payloadType, 'utf8');
	return Buffer.concat([
		Buffer.from(`DSSEv1 ${type.length} `, 'ascii'),
		type,
		Buffer.from(` ${payload.length} `, 'ascii'),
		payload,
	]);
}

export async function signDsse(payloadType: string, payload: Uint8Array, signer: Signer): Promise<SignedDsse> {
	return sealed(payloadType, payload, signer, await signer.sign(preimage(payloadType, payload)));
}

export function signDsseSync(payloadType: string, payload: Uint8Array, signer: SyncSigner): SignedDsse {
	return sealed(payloadType, payload, signer, signer.signSync(preimage(payloadType, payload)));
}

function preimage(payloadType: string, payload: Uint8Array): Uint8Array {
	assert(payload.length <= DSSE_PAYLOAD_BYTES_MAX, 'a DSSE payload is at most 4 MiB');
	return dssePae(payloadType, payload);
}

function sealed(payloadType: string, payload: Uint8Array, signer: Signer, sig: Uint8Array): SignedDsse {
	return { payloadType, payload, signatures: [{ keyid: signer.keyId, sig }] };
}

export type DsseRefusal = 'PAYLOAD_TYPE' | 'SIZE' | 'UNKNOWN_KEY' | 'SIGNATURE';

export type DsseResult =
	| {
			readonly kind: 'ok';
			/** The verified bytes. */
			readonly payload: Uint8Array;
			/** Of the distinct trusted keys whose signatures hold. */
			readonly keyIds: readonly string[];
	  }
	| { readonly kind: 'refused'; readonly why: DsseRefusal; readonly message: string };

export interface DsseExpectation {
	readonly payloadType: string;
	readonly keys: readonly VerifyKey[];
	/** How many distinct keys must have signed. Default 1. */
	readonly threshold?: number;
}

function refused(why: DsseRefusal, message: string): DsseResult {
	return { kind: 'refused', why, message };
}

export function verifyDsse(envelope: DsseEnvelope, expected: DsseExpectation): DsseResult {
	const candidates = candidatesOf(envelope, expected);
	if (!Array.isArray(candidates)) return candidates;
	const pae = dssePae(envelope.payloadType, envelope.payload);
	const valid = candidates.filter(({ key, sig }) => key.verify(pae, sig));
	return conclude(envelope, expected, candidates, valid);
}

/** As `verifyDsse`, with the arithmetic on another thread: for whoever checks hundreds a second beside other work. */
export async function verifyDsseOnThread(envelope: DsseEnvelope, expected: DsseExpectation): Promise<DsseResult> {
	const candidates = candidatesOf(envelope, expected);
	if (!Array.isArray(candidates)) return candidates;
	const pae = dssePae(envelope.payloadType, envelope.payload);
	const holds = await Promise.all(candidates.map(({ key, sig }) => key.verifyOnThread(pae, sig)));
	const valid = candidates.filter((_, index) => holds[index]);
	return conclude(envelope, expected, candidates, valid);
}

interface Candidate {
	readonly key: VerifyKey;
	readonly sig: Uint8Array;
}

/** Signatures that name a trusted key. */
function candidatesOf(envelope: DsseEnvelope, { payloadType, keys }: DsseExpectation): Candidate[] | DsseResult {
	if (envelope.payloadType !== payloadType) {
		return refused('PAYLOAD_TYPE', `the envelope is of another type than ${payloadType}`);
	}
	if (envelope.payload.length > DSSE_PAYLOAD_BYTES_MAX || envelope.signatures.length > DSSE_SIGNATURES_MAX) {
		return refused('SIZE', 'the envelope is larger or has more signatures than any of ours');
	}
	return envelope.signatures.flatMap(({ keyid, sig }) => {
		const key = keys.find((candidate) => candidate.keyId === keyid);
		return key === undefined ? [] : [{ key, sig }];
	});
}

function conclude(
	{ payload }: DsseEnvelope,
	expected: DsseExpectation,
	candidates: readonly Candidate[],
	valid: readonly Candidate[],
): DsseResult {
	const accepted = new Set(valid.map(({ key }) => key.keyId));
	const threshold = expected.threshold ?? 1;
	assert(threshold >= 1, 'a threshold of zero would accept unsigned envelopes');
	if (accepted.size >= threshold) return { kind: 'ok', payload, keyIds: [...accepted] };
	if (candidates.length === 0) return refused('UNKNOWN_KEY', 'the envelope is signed by no key that is trusted here');
	return refused('SIGNATURE', `${accepted.size} trusted signatures hold over these bytes, and ${threshold} are needed`);
}
