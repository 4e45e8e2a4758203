import { hex } from '../../kit/ids.ts';

/**
 * Just enough DER (X.690) to read a certificate or a CSR without a library: identities are read from raw bytes on every
 * stream that a node opens, and node:crypto gives neither the authority key identifier nor the key usage. Strict:
 * definite minimal lengths, low tag numbers, no bytes left over; what isn't DER throws `DerError`.
 */
export class DerError extends Error {
	override readonly name = 'DerError';
}

export const TAG = {
	boolean: 0x01,
	integer: 0x02,
	bitString: 0x03,
	octetString: 0x04,
	oid: 0x06,
	utcTime: 0x17,
	generalizedTime: 0x18,
	sequence: 0x30,
	set: 0x31,
} as const;

export interface Tlv {
	readonly tag: number;
	readonly content: Uint8Array;
	/** Header and content: what a signature covers. */
	readonly raw: Uint8Array;
}

export class DerReader {
	readonly #bytes: Uint8Array;
	#offset = 0;

	constructor(bytes: Uint8Array) {
		this.#bytes = bytes;
	}

	get done(): boolean {
		return this.#offset === this.#bytes.length;
	}

	/** The tag of the next element; undefined at the end. */
	peek(): number | undefined {
		return this.#bytes[this.#offset];
	}

	/** The next element; throws when there is none or when its tag isn't `tag`. */
	next(tag?: number): Tlv {
		const start = this.#offset;
		const found = this.#byte();
		if ((found & 0x1f) === 0x1f) throw new DerError('multi-byte tag');
		if (tag !== undefined && found !== tag) throw new DerError(`tag ${found} where ${tag} was expected`);
		const length = this.#length();
		const end = this.#offset + length;
		if (end > this.#bytes.length) throw new DerError('element is longer than its container');
		const content = this.#bytes.subarray(this.#offset, end);
		this.#offset = end;
		return { tag: found, content, raw: this.#bytes.subarray(start, end) };
	}

	/** A reader over the content of the next element, which must have `tag`. */
	enter(tag: number): DerReader {
		return new DerReader(this.next(tag).content);
	}

	/** The next element when it has `tag`. */
	optional(tag: number): Tlv | undefined {
		return this.peek() === tag ? this.next() : undefined;
	}

	end(): void {
		if (!this.done) throw new DerError('bytes after the last element');
	}

	#byte(): number {
		const byte = this.#bytes[this.#offset];
		if (byte === undefined) throw new DerError('truncated');
		this.#offset += 1;
		return byte;
	}

	#length(): number {
		const first = this.#byte();
		if (first < 0x80) return first;
		const size = first & 0x7f;
		if (size === 0 || size > 3) throw new DerError('indefinite or oversized length');
		let length = 0;
		for (let index = 0; index < size; index += 1) length = length * 256 + this.#byte();
		if (length < (size === 1 ? 0x80 : 2 ** (8 * (size - 1)))) throw new DerError('length is not minimal');
		return length;
	}
}

/** One element with `tag` around the parts. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
	const content = Buffer.concat(parts);
	const length = content.length;
	let header: number[];
	if (length < 0x80) header = [tag, length];
	else if (length < 0x100) header = [tag, 0x81, length];
	else if (length < 0x10000) header = [tag, 0x82, length >> 8, length & 0xff];
	else header = [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
	return new Uint8Array(Buffer.concat([Uint8Array.from(header), content]));
}

/** BIT STRING with no unused bits, as signatures have. */
export function bitString(bytes: Uint8Array): Uint8Array {
	return der(TAG.bitString, Uint8Array.of(0), bytes);
}

/** The bytes of a BIT STRING that has no unused bits. */
export function bitStringBytes(tlv: Tlv): Uint8Array {
	if (tlv.content[0] !== 0) throw new DerError('BIT STRING with unused bits');
	return tlv.content.subarray(1);
}

/** Positive INTEGER as lower-case hex of even length, without the sign byte. */
export function integerHex(content: Uint8Array): string {
	const [first, second] = content;
	if (first === undefined || first >= 0x80) throw new DerError('INTEGER is empty or negative');
	if (first !== 0) return hex(content);
	if (second === undefined) return '00';
	if (second < 0x80) throw new DerError('INTEGER is not minimal');
	return hex(content.subarray(1));
}

/** Dotted text of an OBJECT IDENTIFIER; arcs may be as long as a UUID (2.25). */
export function oidText(content: Uint8Array): string {
	const arcs: string[] = [];
	let arc = 0n;
	let fresh = true;
	for (const byte of content) {
		if (fresh && byte === 0x80) throw new DerError('OID arc is not minimal');
		arc = (arc << 7n) | BigInt(byte & 0x7f);
		fresh = byte < 0x80;
		if (!fresh) continue;
		if (arcs.length > 0) arcs.push(arc.toString());
		else {
			const root = arc < 40n ? 0n : arc < 80n ? 1n : 2n;
			arcs.push(root.toString(), (arc - root * 40n).toString());
		}
		arc = 0n;
	}
	if (!fresh || arcs.length === 0) throw new DerError('OID is truncated');
	return arcs.join('.');
}

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/** Milliseconds since the epoch of a UTCTime or GeneralizedTime in the form that RFC 5280 section 4.1.2.5 allows. */
export function timeMs(tlv: Tlv): number {
	const pattern = tlv.tag === TAG.utcTime ? UTC_TIME : tlv.tag === TAG.generalizedTime ? GENERALIZED_TIME : undefined;
	const match = pattern?.exec(String.fromCharCode(...tlv.content.subarray(0, 16)));
	if (!match) throw new DerError('time is neither UTCTime nor GeneralizedTime in Z form');
	const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
	const fullYear = tlv.tag === TAG.utcTime ? year + (year < 50 ? 2000 : 1900) : year;
	const ms = Date.UTC(fullYear, month - 1, day, hour, minute, second);
	// Date.UTC rolls 31 February over into March.
	if (new Date(ms).getUTCDate() !== day || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59) {
		throw new DerError('no such time');
	}
	return ms;
}
