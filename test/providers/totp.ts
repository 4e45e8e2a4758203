import { createHmac } from 'node:crypto';

/** RFC 6238 with SHA-1, 6 digits, 30 s: what an authenticator app shows at `atMs` for this secret. */
export function totp(secret: Uint8Array, atMs: number): string {
	const counter = Buffer.alloc(8);
	counter.writeBigUInt64BE(BigInt(Math.floor(atMs / 30_000)));
	const mac = createHmac('sha1', secret).update(counter).digest();
	const offset = (mac.at(-1) ?? 0) & 0x0f;
	const code = (mac.readUInt32BE(offset) & 0x7fff_ffff) % 1_000_000;
	return String(code).padStart(6, '0');
}
