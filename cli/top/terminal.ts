import process from 'node:process';
import type { Io } from '../io.ts';

/**
 * The terminal while `top` has it: alternate screen, no cursor, keys as they are typed. Given back on every way out: at
 * the end, on a signal, on an error, and when the process exits in the middle.
 */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[2J';
const LEAVE = '\u001b[?25h\u001b[?1049l';

interface RawInput {
	setRawMode?(raw: boolean): unknown;
}

export class TopTerminal implements Disposable {
	readonly #io: Io;
	readonly #onKey: (key: string) => void;
	readonly #onResize: () => void;
	#isOpen = true;
	readonly #restore = () => this.#leave();
	readonly #read = (chunk: string | Buffer) => {
		for (const key of keysOf(String(chunk))) this.#onKey(key);
	};

	constructor(io: Io, onKey: (key: string) => void, onResize: () => void) {
		this.#io = io;
		this.#onKey = onKey;
		this.#onResize = onResize;
		process.once('exit', this.#restore);
		io.stdout.write(ENTER);
		(io.stdin as RawInput).setRawMode?.(true);
		io.stdin.on('data', this.#read);
		io.stdin.resume();
		io.stdout.on('resize', onResize);
	}

	get columns(): number {
		return Math.max(20, this.#io.stdout.columns ?? 80);
	}

	get rows(): number {
		return Math.max(6, (this.#io.stdout as { rows?: number }).rows ?? 24);
	}

	/** Each line over what was there: nothing flickers. */
	draw(lines: readonly string[]): void {
		if (this.#isOpen) this.#io.stdout.write(`\u001b[H${lines.join('\r\n')}\u001b[J`);
	}

	[Symbol.dispose](): void {
		process.removeListener('exit', this.#restore);
		this.#leave();
	}

	#leave(): void {
		if (!this.#isOpen) return;
		this.#isOpen = false;
		const { stdin, stdout } = this.#io;
		stdin.removeListener('data', this.#read);
		stdout.removeListener('resize', this.#onResize);
		(stdin as RawInput).setRawMode?.(false);
		stdin.pause();
		stdout.write(LEAVE);
	}
}

const ESCAPE = '\u001b';
/** What follows an escape of an arrow or page key. */
const SEQUENCE = /^\[[0-9;]*[A-Za-z~]/;

/** Each key of a chunk: one character, or a whole sequence. */
function keysOf(chunk: string): string[] {
	const keys: string[] = [];
	for (let at = 0; at < chunk.length; ) {
		const rest = chunk[at] === ESCAPE ? (SEQUENCE.exec(chunk.slice(at + 1))?.[0] ?? '') : '';
		const key = (chunk[at] ?? '') + rest;
		keys.push(key);
		at += key.length;
	}
	return keys;
}
