import { hkdfSync } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { assert } from '../../kit/assert.ts';
import { isIdentityId, isTrustDomain } from '../trust/spiffe.ts';
import { ed25519SignerFromSeed, type KeyObjectSigner } from './signer.ts';

/**
 * The one string that an operator pastes on a host: `gpu_jt_` and base64url of
 *
 *   version u8 = 1 | id length u8, id | secret 32 | expiry u32 (s since the epoch) | trust domain length u8, it
 *   | pins u8, 32 bytes each | CRC-32 of all before, u32          (integers big-endian)
 *
 * The prefix lets scanners and our own log redaction find it; the checksum tells a bad paste from a wrong token before
 * anything is sent. The secret seeds an Ed25519 key of which the control plane stores only the public half: a stolen
 * database enrolls nobody. Several pins let a token outlive a rotation of the root.
 */
export interface JoinToken {
	readonly id: string;
	/** 32 bytes. Never logged, never in argv or env. */
	readonly secret: Uint8Array;
	/** Key ids (hex SHA-256 of the SPKI) of the roots, one of which the enrollment listener must chain to. */
	readonly caPins: readonly string[];
	readonly trustDomain: string;
	/** Whole seconds. */
	readonly expiresAtMs: number;
}

export const JOIN_TOKEN_PREFIX = 'gpu_jt_';
const API_KEY = /^gpu_[us]k_/;
export const JOIN_SECRET_BYTES = 32;
/** Old root, new root, and room for a control plane that merges two. */
export const JOIN_TOKEN_PINS_MAX = 4;
const TOKEN_CHARS_MAX = 1024;
const VERSION = 1;
const PIN = /^[0-9a-f]{64}$/;

export function encodeJoinToken(token: JoinToken): string {
	assert(isIdentityId(token.id) && token.id.length <= 64, 'a token id has 1 to 64 letters, digits, dots and dashes');
	assert(token.secret.length === JOIN_SECRET_BYTES, 'a join secret has 32 bytes');
	assert(isTrustDomain(token.trustDomain), 'a trust domain is a lower-case DNS name');
	assert(token.caPins.length >= 1 && token.caPins.length <= JOIN_TOKEN_PINS_MAX, 'a token has 1 to 4 pins');
	assert(
		token.caPins.every((pin) => PIN.test(pin)),
		'a pin is a hex SHA-256',
	);
	const body = Buffer.concat([
		Uint8Array.of(VERSION, token.id.length),
		Buffer.from(token.id, 'ascii'),
		token.secret,
		uint32(Math.floor(token.expiresAtMs / 1000)),
		Uint8Array.of(token.trustDomain.length),
		Buffer.from(token.trustDomain, 'ascii'),
		Uint8Array.of(token.caPins.length),
		...token.caPins.map((pin) => Buffer.from(pin, 'hex')),
	]);
	return JOIN_TOKEN_PREFIX + Buffer.concat([body, uint32(crc32(body))]).toString('base64url');
}

export type JoinTokenResult =
	| { readonly kind: 'ok'; readonly token: JoinToken }
	| { readonly kind: 'refused'; readonly reason: 'TOKEN_INVALID'; readonly message: string };

function refused(what: string, fix = 'copy the whole string again, or create a new token'): JoinTokenResult {
	return { kind: 'refused', reason: 'TOKEN_INVALID', message: `the join token ${what}; ${fix}` };
}

/** Surrounding white space is ignored. Messages never repeat any part of the token. Expiry is the caller's question. */
export function parseJoinToken(text: string): JoinTokenResult {
	const trimmed = text.trim();
	if (trimmed.length > TOKEN_CHARS_MAX) return refused(`is longer than ${TOKEN_CHARS_MAX} characters`);
	if (API_KEY.test(trimmed))
		return refused('is an API key, which enrolls nobody', 'gpuaas token create makes a join token');
	if (!trimmed.startsWith(JOIN_TOKEN_PREFIX)) return refused(`doesn't start with ${JOIN_TOKEN_PREFIX}`);
	const encoded = trimmed.slice(JOIN_TOKEN_PREFIX.length);
	const bytes = Buffer.from(encoded, 'base64url');
	// Buffer skips what isn't base64url, so compare with what it understood.
	if (bytes.toString('base64url') !== encoded) return refused('has characters that no token has');
	if (bytes.length < 6) return refused('is cut short');
	const body = bytes.subarray(0, -4);
	if (crc32(body) !== bytes.readUInt32BE(body.length))
		return refused('fails its checksum: it is cut short or mistyped');
	if (body[0] !== VERSION) return refused(`has version ${body[0]}, which this agent doesn't know`, 'update the agent');
	const token = readBody(body);
	return token ? { kind: 'ok', token } : refused('has fields that no token has');
}

function readBody(body: Buffer): JoinToken | undefined {
	let offset = 1;
	let complete = true;
	const take = (length: number): Buffer => {
		const part = body.subarray(offset, offset + length);
		complete &&= part.length === length;
		offset += length;
		return part;
	};
	const byte = (): number => take(1)[0] ?? 0;
	const id = take(byte()).toString('latin1');
	const secret = new Uint8Array(take(JOIN_SECRET_BYTES));
	const expiry = take(4);
	const trustDomain = take(byte()).toString('latin1');
	const pinCount = byte();
	const caPins = Array.from({ length: Math.min(pinCount, JOIN_TOKEN_PINS_MAX) }, () => take(32).toString('hex'));
	if (!complete || offset !== body.length || caPins.length !== pinCount || pinCount === 0) return undefined;
	if (!isIdentityId(id) || id.length > 64 || !isTrustDomain(trustDomain)) return undefined;
	return { id, secret, caPins, trustDomain, expiresAtMs: expiry.readUInt32BE() * 1000 };
}

function uint32(value: number): Uint8Array {
	assert(value >= 0 && value <= 0xffff_ffff, 'an unsigned 32-bit number');
	const bytes = Buffer.alloc(4);
	bytes.writeUInt32BE(value);
	return bytes;
}

/** The key that signs the Hello. HKDF (RFC 5869), so that the secret may later seed other keys too. */
export function joinTokenSigner(secret: Uint8Array): KeyObjectSigner {
	assert(secret.length === JOIN_SECRET_BYTES, 'a join secret has 32 bytes');
	return ed25519SignerFromSeed(new Uint8Array(hkdfSync('sha256', secret, '', 'gpuaas-join-token-ed25519-v1', 32)));
}

/** SPKI DER of the token's key: the only thing about the secret that is stored. */
export function joinTokenPublicKey(secret: Uint8Array): Uint8Array {
	return joinTokenSigner(secret).spki();
}
