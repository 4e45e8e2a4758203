/**
 * HTTP/2 frames by hand (RFC 9113), for clients that no library would be: streams that are opened only to be reset.
 */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const CONTINUATION = 9;
const END_HEADERS = 4;
const CANCEL = 8;

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
	const head = Buffer.alloc(9);
	head.writeUIntBE(payload.length, 0, 3);
	head.writeUInt8(type, 3);
	head.writeUInt8(flags, 4);
	head.writeUInt32BE(streamId, 5);
	return Buffer.concat([head, payload]);
}

/** What a client says first. */
export function opening(): Buffer {
	return Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, Buffer.alloc(0))]);
}

/** HEADERS of a POST whose body never comes, and at once its RST_STREAM. `streamId` is odd and rising. */
export function openAndReset(streamId: number, path: string, authority: string): Buffer {
	const literal = (nameIndex: number, value: string) =>
		Buffer.concat([Buffer.of(nameIndex, value.length), Buffer.from(value, 'latin1')]);
	// HPACK (RFC 7541): 3 is `:method: POST` and 7 `:scheme: https` of the static table; 4 and 1 name :path and :authority.
	const block = Buffer.concat([Buffer.of(0x83, 0x87), literal(4, path), literal(1, authority)]);
	const reset = Buffer.alloc(4);
	reset.writeUInt32BE(CANCEL);
	return Buffer.concat([frame(HEADERS, END_HEADERS, streamId, block), frame(RST_STREAM, 0, streamId, reset)]);
}

/** HEADERS of a POST that are not at their end: only CONTINUATION of the same stream may follow. */
export function openHeaders(streamId: number): Buffer {
	return frame(HEADERS, 0, streamId, Buffer.of(0x83, 0x87));
}

/** One more header, `a: b` without indexing, and still not the end. */
export function moreHeaders(streamId: number): Buffer {
	return frame(CONTINUATION, 0, streamId, Buffer.of(0, 1, 0x61, 1, 0x62));
}
