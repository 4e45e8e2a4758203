/** The smallest tar that every tar reads: POSIX ustar headers of regular files (IEEE 1003.1, pax, "ustar Interchange Format"). */
const BLOCK = 512;
const NAME_BYTES_MAX = 100;

/** One member: header, content, padding to a whole block. `name` is ASCII. */
export function tarMember(name: string, content: Uint8Array, mtimeMs: number): Uint8Array {
	if (!/^[ -~]+$/.test(name) || name.length > NAME_BYTES_MAX) throw new RangeError('a member has a short ASCII name');
	const header = Buffer.alloc(BLOCK);
	header.write(name, 0, 'ascii');
	header.write('0000644\0', 100, 'ascii');
	header.write('0000000\0', 108, 'ascii');
	header.write('0000000\0', 116, 'ascii');
	header.write(`${octal(content.length, 11)}\0`, 124, 'ascii');
	header.write(`${octal(Math.floor(mtimeMs / 1000), 11)}\0`, 136, 'ascii');
	header.write('        ', 148, 'ascii');
	header.write('0', 156, 'ascii');
	header.write('ustar\0', 257, 'ascii');
	header.write('00', 263, 'ascii');
	let sum = 0;
	for (const byte of header) sum += byte;
	header.write(`${octal(sum, 6)}\0 `, 148, 'ascii');
	return Buffer.concat([header, content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]);
}

/** Two empty blocks. */
export function tarEnd(): Uint8Array {
	return Buffer.alloc(2 * BLOCK);
}

function octal(value: number, digits: number): string {
	return value.toString(8).padStart(digits, '0');
}
