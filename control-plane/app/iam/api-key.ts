import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Rng } from '../../../kit/ids.ts';

/**
 * API keys: `gpu_<uk|sk>_<env>_<id12>_<secret43><crc6>`. The kind says user or service account, `id12` finds the row,
 * `secret43` is 32 random bytes in base64url, `crc6` is the CRC-32 of all that stands before it in base 62: a mistyped
 * or cut key is told apart from a wrong one without a look-up, and secret scanners can check a match.
 * The store keeps HMAC-SHA256(pepper, text) only.
 */
export type ApiKeyKind = 'uk' | 'sk';

export interface ApiKey {
	readonly kind: ApiKeyKind;
	readonly environment: string;
	readonly id: string;
	/** Everything but the checksum: what the HMAC is over. */
	readonly body: string;
}

const FORMAT = /^(gpu_(uk|sk)_([a-z0-9]{1,16})_([0-9a-z]{12})_[A-Za-z0-9_-]{43})([0-9A-Za-z]{6})$/;
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const ID_DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz';
const ID_LENGTH = 12;

/** Undefined when the text can't be a key of ours. */
export function parseApiKey(text: string): ApiKey | undefined {
	const match = FORMAT.exec(text);
	const [, body, kind, environment, id, checksum] = match ?? [];
	if (body === undefined || environment === undefined || id === undefined) return undefined;
	if (checksum !== checksumOf(body)) return undefined;
	return { kind: kind === 'sk' ? 'sk' : 'uk', environment, id, body };
}

/** A new key and its text. The text is shown once; whoever calls must not log it. */
export function mintApiKey(
	kind: ApiKeyKind,
	environment: string,
	rng: Rng,
): { readonly key: ApiKey; readonly text: string } {
	let id = '';
	// 252 is the largest multiple of 36 in a byte: rejecting above it keeps the digits uniform.
	while (id.length < ID_LENGTH) {
		for (const byte of rng.bytes(ID_LENGTH)) if (byte < 252 && id.length < ID_LENGTH) id += ID_DIGITS[byte % 36];
	}
	const secret = Buffer.from(rng.bytes(32)).toString('base64url');
	const body = `gpu_${kind}_${environment}_${id}_${secret}`;
	return { key: { kind, environment, id, body }, text: `${body}${checksumOf(body)}` };
}

export function macOf(key: ApiKey, pepper: KeyObject): Uint8Array {
	return createHmac('sha256', pepper).update(key.body).digest();
}

/** In constant time. */
export function sameMac(left: Uint8Array, right: Uint8Array): boolean {
	return left.length === right.length && timingSafeEqual(left, right);
}

function checksumOf(body: string): string {
	let rest = crc32(body);
	let text = '';
	for (let digit = 0; digit < 6; digit += 1) {
		text = (DIGITS[rest % 62] ?? '') + text;
		rest = Math.floor(rest / 62);
	}
	return text;
}
