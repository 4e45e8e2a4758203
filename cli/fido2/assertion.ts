import { createHash, createPublicKey, verify } from 'node:crypto';
import type { Io } from '../io.ts';
import { cborBytes } from './cbor-bytes.ts';
import type { Fido2Credential } from './credential.ts';
import { runFido2, securityKeyUnavailable } from './program.ts';

/** A WebAuthn assertion, as the control plane takes it (WebAuthn section 7.2). */
export interface Fido2Assertion {
	readonly clientDataJson: Buffer;
	readonly authenticatorData: Buffer;
	readonly signature: Buffer;
}

/** How the key knows its owner. */
export type UserVerification = 'pin' | 'fingerprint';

/**
 * Has the security key sign the challenge: its SHA-256 stands in the client data, whose SHA-256 the key signs together with
 * the hash of the relying party's id, the flags and the counter. What comes back is checked here as the control plane will,
 * so that a key that would be refused there says so to the person who holds it.
 */
export async function assertChallenge(
	io: Io,
	device: string,
	credential: Fido2Credential,
	challenge: Uint8Array,
	verification: UserVerification,
): Promise<Fido2Assertion> {
	const clientDataJson = clientDataOf(credential.rpId, challenge);
	const hash = sha256(clientDataJson).toString('base64');
	const asked = [hash, credential.rpId, credential.credentialId.toString('base64')];
	const how = verification === 'pin' ? ['-v'] : ['-t', 'uv=true'];
	const answer = await runFido2(io, 'fido2-assert', ['-G', ...how, device], asked.map((line) => `${line}\n`).join(''));
	const [answeredHash, answeredRpId, data = '', signature = ''] = answer.split('\n');
	if (answeredHash !== hash || answeredRpId !== credential.rpId)
		throw securityKeyUnavailable('it answered another challenge');
	const authenticatorData = cborBytes(Buffer.from(data, 'base64'));
	if (authenticatorData === undefined) throw securityKeyUnavailable('its authenticator data cannot be read');
	const assertion = { clientDataJson, authenticatorData, signature: Buffer.from(signature, 'base64') };
	checkAssertion(credential, assertion);
	return assertion;
}

/** Exactly the members that WebAuthn section 5.8.1.1 begins with, in its order. */
function clientDataOf(rpId: string, challenge: Uint8Array): Buffer {
	const members = { type: 'webauthn.get', challenge: sha256(challenge).toString('base64url') };
	return Buffer.from(JSON.stringify({ ...members, origin: `https://${rpId}`, crossOrigin: false }));
}

const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;
/** rpIdHash (32), flags (1), signCount (4). */
const AUTHENTICATOR_DATA_BYTES_MIN = 37;

/** Throws SECURITY_KEY_UNAVAILABLE. */
function checkAssertion({ rpId, publicKey, algorithm }: Fido2Credential, given: Fido2Assertion): void {
	const { authenticatorData: data, clientDataJson, signature } = given;
	if (data.length < AUTHENTICATOR_DATA_BYTES_MIN || !data.subarray(0, 32).equals(sha256(rpId)))
		throw securityKeyUnavailable('it answered for another relying party');
	const flags = data.readUInt8(32);
	if ((flags & USER_PRESENT) === 0) throw securityKeyUnavailable('it was not touched');
	if ((flags & USER_VERIFIED) === 0)
		throw securityKeyUnavailable('it asked for neither PIN nor finger; give it a PIN: fido2-token -S DEVICE');
	const key = createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
	const signed = Buffer.concat([data, sha256(clientDataJson)]);
	if (!verify(algorithm === 'eddsa' ? null : 'sha256', signed, key, signature))
		throw securityKeyUnavailable('its signature is not by the key of this credential');
}

function sha256(bytes: Uint8Array | string): Buffer {
	return createHash('sha256').update(bytes).digest();
}
