import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { BreakGlassSignature } from '../../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import type { BreakGlassKeyRow } from '../../store/port/break-glass.ts';

/**
 * What a registered key says about a challenge. Pure. An Ed25519 key signs the challenge; a FIDO2 key signs a WebAuthn
 * assertion (section 7.2) over its SHA-256, with a person's touch and PIN or finger.
 */
const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;
/** rpIdHash (32), flags (1), signCount (4). */
const AUTHENTICATOR_DATA_BYTES_MIN = 37;

export type Judged = { readonly ok: true; readonly signCount: number } | { readonly ok: false; readonly why: string };

export function judgeSignature(key: BreakGlassKeyRow, challenge: Uint8Array, given: BreakGlassSignature): Judged {
	const publicKey = publicKeyOf(key.publicKey);
	if (publicKey === undefined) return no('its registered key cannot be read');
	if (key.kind === 'fido2') return judgeAssertion(key, publicKey, challenge, given);
	return isSigned(publicKey, challenge, given.signature)
		? { ok: true, signCount: 0 }
		: no('the signature is not over this challenge by this key');
}

function judgeAssertion(
	key: BreakGlassKeyRow,
	publicKey: KeyObject,
	challenge: Uint8Array,
	{ authenticatorData, clientDataJson, signature }: BreakGlassSignature,
): Judged {
	const data = Buffer.from(authenticatorData);
	if (data.length < AUTHENTICATOR_DATA_BYTES_MIN) return no('its authenticator data is too short');
	const client = clientDataOf(clientDataJson);
	const expected = sha256(challenge).toString('base64url');
	if (client?.type !== 'webauthn.get' || client.challenge !== expected) return no('it answers another challenge');
	if (!data.subarray(0, 32).equals(sha256(Buffer.from(key.rpId)))) return no('it was made for another relying party');
	const flags = data.readUInt8(32);
	if ((flags & USER_PRESENT) === 0 || (flags & USER_VERIFIED) === 0) return no('nobody proved to be there');
	if (!isSigned(publicKey, Buffer.concat([data, sha256(clientDataJson)]), signature))
		return no('its signature is wrong');
	const signCount = data.readUInt32BE(33);
	// A counter that stands still or falls means a copied key; keys that don't count say 0 (section 6.1.1).
	if ((signCount !== 0 || key.signCount !== 0) && signCount <= key.signCount) return no('its counter did not rise');
	return { ok: true, signCount };
}

/** Ed25519, or P-256 with SHA-256: what security keys have. */
export function publicKeyOf(spki: Uint8Array): KeyObject | undefined {
	try {
		const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
		const isP256 = key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
		return key.asymmetricKeyType === 'ed25519' || isP256 ? key : undefined;
	} catch {
		return undefined;
	}
}

function isSigned(key: KeyObject, message: Uint8Array, signature: Uint8Array): boolean {
	return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', message, key, signature);
}

function clientDataOf(json: Uint8Array): { readonly type?: unknown; readonly challenge?: unknown } | undefined {
	try {
		const parsed: unknown = JSON.parse(Buffer.from(json).toString('utf8'));
		return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
	} catch {
		return undefined;
	}
}

function sha256(bytes: Uint8Array): Buffer {
	return createHash('sha256').update(bytes).digest();
}

function no(why: string): Judged {
	return { ok: false, why };
}
