import { readFile } from 'node:fs/promises';
import { GpuaasError } from '../kit/error.ts';

/**
 * Arguments reach this program as text: the runtime has already put U+FFFD in place of bytes that are none, and the
 * task would run with that. Whether a U+FFFD was typed or is such a replacement only the kernel's copy of the command
 * line tells.
 */
const REPLACEMENT = '\ufffd';

/**
 * Throws when the command line is not what was typed. Its last words are the program (argument 0) and its arguments.
 * `commandLine`: NUL after each word.
 */
export async function assertTyped(
	program: readonly string[],
	options: readonly string[],
	commandLine: () => Promise<Uint8Array> = () => readFile('/proc/self/cmdline'),
): Promise<void> {
	if (![...program, ...options].some((word) => word.includes(REPLACEMENT))) return;
	const bytes = await commandLine().catch(() => undefined);
	if (bytes === undefined) throw notText('an argument may not be valid UTF-8, and that cannot be looked up here');
	const typed = splitWords(bytes);
	const wrong = typed.findIndex((word) => !isUtf8(word));
	if (wrong === -1) return;
	// The program's words are the last ones; before them stand our options, the verb, the script and the runtime.
	const position = wrong - (typed.length - program.length);
	throw notText(
		position < 0 ? 'an option is not valid UTF-8' : `argument ${position} of the program is not valid UTF-8`,
	);
}

function notText(what: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: `${what}: arguments travel as text; nothing was done. Put the bytes into a file, or encode them`,
	});
}

function splitWords(bytes: Uint8Array): readonly Uint8Array[] {
	const words: Uint8Array[] = [];
	for (let start = 0; start < bytes.length; ) {
		const found = bytes.indexOf(0, start);
		const end = found === -1 ? bytes.length : found;
		words.push(bytes.subarray(start, end));
		start = end + 1;
	}
	return words;
}

function isUtf8(bytes: Uint8Array): boolean {
	try {
		new TextDecoder('utf-8', { fatal: true }).decode(bytes);
		return true;
	} catch {
		return false;
	}
}
