/**
 * ssh's escape sequences: `~` right after a line break begins one. Everything else passes as it is, byte by byte; a
 * sequence may be torn over any number of reads.
 */
export type Escape = 'end' | 'detach' | 'help';

const TILDE = 0x7e;
const CR = 0x0d;
const LF = 0x0a;
const ESCAPES: ReadonlyMap<number, Escape> = new Map(
	[
		['.', 'end'],
		['d', 'detach'],
		['?', 'help'],
	].map(([key, deed]) => [(key as string).charCodeAt(0), deed as Escape]),
);

export class EscapeFilter {
	#isAtLineStart = true;
	#hasTilde = false;

	/** What is to be sent, and what was asked for; nothing after an escape that ends or detaches is sent. */
	push(bytes: Uint8Array): { readonly send: Uint8Array; readonly escapes: readonly Escape[] } {
		const send: number[] = [];
		const escapes: Escape[] = [];
		for (const byte of bytes) {
			if (this.#hasTilde) {
				this.#hasTilde = false;
				const found = ESCAPES.get(byte);
				if (found !== undefined) {
					escapes.push(found);
					this.#isAtLineStart = true;
					if (found !== 'help') break;
					continue;
				}
				// `~~` is one tilde; before anything else it stands for itself.
				send.push(TILDE);
				if (byte === TILDE) {
					this.#isAtLineStart = false;
					continue;
				}
			} else if (this.#isAtLineStart && byte === TILDE) {
				this.#hasTilde = true;
				continue;
			}
			send.push(byte);
			this.#isAtLineStart = byte === CR || byte === LF;
		}
		return { send: Uint8Array.from(send), escapes };
	}
}

export const ESCAPE_HELP = [
	'',
	'Supported escape sequences, right after Enter:',
	' ~.  end the terminal and all that runs in it',
	' ~d  detach: it goes on; come back with gpuaas terminal attach',
	' ~?  this list',
	' ~~  send one ~',
	'',
].join('\r\n');
