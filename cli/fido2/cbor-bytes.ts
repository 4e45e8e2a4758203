const MAJOR_BYTE_STRING = 2;

/**
 * What is in a CBOR byte string (RFC 8949 section 3.1): libfido2 hands out authenticator data as the key sent them, wrapped
 * in one; WebAuthn signs what is inside. Undefined for anything else, or when something is left over.
 */
export function cborBytes(data: Buffer): Buffer | undefined {
	const first = data[0];
	if (first === undefined || first >> 5 !== MAJOR_BYTE_STRING) return undefined;
	const short = first & 0x1f;
	const lengthBytes = short < 24 ? 0 : short === 24 ? 1 : short === 25 ? 2 : undefined;
	if (lengthBytes === undefined || data.length < 1 + lengthBytes) return undefined;
	const length = lengthBytes === 0 ? short : data.readUIntBE(1, lengthBytes);
	const inside = data.subarray(1 + lengthBytes);
	return inside.length === length ? inside : undefined;
}
