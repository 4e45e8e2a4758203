import type { Writable } from 'node:stream';
import type { Io } from '../io.ts';
import { windowSize } from './open-options.ts';
import { setCooked, setRaw } from './raw-mode.ts';

/**
 * The terminal that we sit in: raw while a remote one has it, and on every way out as it was, also when we are ended by
 * a signal or fail. Full-screen programs leave modes behind that nobody else would take back.
 */
export const MODES_RESET = [
	// Bracketed paste, mouse reports in all their forms, focus reports, application keys.
	'\u001b[?2004l\u001b[?1000l\u001b[?1002l\u001b[?1003l\u001b[?1005l\u001b[?1006l\u001b[?1015l\u001b[?1016l\u001b[?1004l\u001b[?1l\u001b>',
	// Plain bytes are ASCII again, after a program that drew lines with them.
	'\u000f\u001b(B\u001b)B',
	// The whole screen scrolls, lines are counted from its top, text replaces; the cursor has its own shape, and stays. Keys
	// are as usual (kitty's protocol, modifyOtherKeys), where a terminal without them restores the cursor, or underlines.
	'\u001b7\u001b[?6l\u001b[r\u001b[<u\u001b8\u001b[4l\u001b[>4m\u001b[0 q\u001b[?25h\u001b[0m',
].join('');
const RESET = `\u001b[?1049l${MODES_RESET}`;
/** To the main screen, modes as after a start, cleared; what was above stays in the scrollback. */
const CLEAR = `${RESET}\u001b[!p\u001b[H\u001b[2J`;

export interface LocalTerminal {
	/** What is written here goes to the screen as it is; while the terminal takes nothing it waits, and nothing else does. */
	readonly output: Writable;
	/** What is said to the person, in lines of CR LF: between the output, or wherever their errors go. */
	readonly notes: Writable;
	size(): { readonly columns: number; readonly rows: number };
	onResize(listener: () => void): () => void;
	/** `isClean`: the program left by itself, and took its modes with it. Idempotent. */
	restore(isClean: boolean): void;
	readonly clear: string;
}

export function takeTerminal(io: Io): LocalTerminal {
	const { stdin, stdout } = io;
	setRaw(stdin);
	const output = io.openTerminal?.() ?? stdout;
	let isRestored = false;
	const restore = (isClean: boolean) => {
		if (isRestored) return;
		isRestored = true;
		setCooked(stdin);
		if (!isClean) output.write(RESET);
		process.removeListener('exit', atExit);
	};
	const atExit = () => restore(false);
	process.on('exit', atExit);
	return {
		output,
		notes: io.stderr.isTTY === true ? output : io.stderr,
		size: () => windowSize(io),
		onResize(listener) {
			stdout.on('resize', listener);
			return () => stdout.removeListener('resize', listener);
		},
		restore,
		clear: CLEAR,
	};
}
