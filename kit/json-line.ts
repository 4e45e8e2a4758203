/**
 * One JSON document as a line for whoever called: a program, or a person at a terminal. `JSON.stringify` escapes only what
 * is below U+0020: what a host or a tenant wrote could drive the terminal by C1 controls, and turn texts around (as
 * `printable` of cli/io.ts says). Escaped, the document has the same value.
 */
const UNSAFE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

export function jsonLine(document: unknown): string {
	const text = JSON.stringify(document).replaceAll(
		UNSAFE,
		(character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
	);
	return `${text}\n`;
}
