import type { Writable } from 'node:stream';
import type { Clock } from '../kit/clock.ts';
import type { Rng } from '../kit/ids.ts';
import { jsonLine } from '../kit/json-line.ts';
import { displayWidth, padCells } from './display-width.ts';

/** Everything a verb touches of the outside world, so that tests can watch it. */
export interface Io {
	readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
	readonly stderr: Writable & { readonly isTTY?: boolean };
	readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean; readonly fd?: number };
	/** The terminal that stdout is, by a way whose writes hold up nothing else; see terminal/terminal-output.ts. */
	readonly openTerminal?: () => Writable | undefined;
	readonly env: Readonly<Record<string, string | undefined>>;
	readonly cwd: string;
	readonly clock: Clock;
	readonly rng: Rng;
	/** Aborts at the first Ctrl-C (or another signal, see Interruption); `force` at the second. */
	readonly interrupt: AbortSignal;
	readonly force: AbortSignal;
}

/** Signals that end a program, and that it may hold up. */
export const INTERRUPTING = ['INT', 'TERM', 'HUP', 'QUIT'] as const;

/** Why `interrupt` and `force` abort: which signal came. Named as what aborts is, for whoever else is given them. */
export class Interruption extends Error {
	override readonly name = 'AbortError';
	readonly signal: (typeof INTERRUPTING)[number];

	constructor(signal: (typeof INTERRUPTING)[number]) {
		super(`SIG${signal} came`);
		this.signal = signal;
	}
}

/** Why `interrupt` aborts where nobody reads standard output any more (`| head`); an Interruption for a signal. */
export const READER_LEFT = Symbol('the reader of standard output went away');

const READER_GONE: ReadonlySet<string> = new Set(['EPIPE', 'ERR_STREAM_DESTROYED']);

/** `| head`, or a terminal that hung up (its writes fail with EIO; those of a file on a broken disk do, too). */
export function isReaderGone(stream: Io['stdout'] | Io['stderr'], { code = '' }: NodeJS.ErrnoException): boolean {
	return READER_GONE.has(code) || (code === 'EIO' && stream.isTTY === true);
}

/** Writes and waits while the reader is slow: output is never buffered without bound. */
export function write(stream: Writable, chunk: string | Uint8Array): Promise<void> {
	return new Promise((resolve, reject) => {
		stream.write(chunk, (error) => {
			// A reader that went away is not a failure of ours; the caller sees it by `writable`.
			if (error === null || error === undefined || isReaderGone(stream, error)) resolve();
			else reject(error);
		});
	});
}

/** As `write`; undefined where it is out at once, as at a file, or a pipe with room: for whoever writes much. */
export function writeNow(stream: Writable, chunk: Uint8Array): Promise<void> | undefined {
	const writing = write(stream, chunk);
	const isOut = stream.writableLength === 0 && stream.errored === null && !stream.destroyed;
	return isOut ? undefined : writing;
}

export function printJson(io: Io, document: unknown): Promise<void> {
	return write(io.stdout, jsonLine(document));
}

const ESCAPES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

/** Colours only on a terminal, and never where NO_COLOR is set (no-color.org). */
export function paint(io: Io, style: keyof typeof ESCAPES, text: string): string {
	if (io.stdout.isTTY !== true || (io.env.NO_COLOR ?? '') !== '') return text;
	return `\u001b[${ESCAPES[style]}m${text}\u001b[0m`;
}

// What a host or a tenant wrote may not drive the reader's terminal: control characters are shown, not sent. Nor those
// that turn the direction around: with them a text reads as another than it is (CVE-2021-42574).
const CONTROL = /[^\P{Cc}\t\n]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

export function printable(text: string): string {
	return text.replaceAll(CONTROL, (character) => {
		const code = character.charCodeAt(0).toString(16);
		return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u${code.padStart(4, '0')}`;
	});
}

/** Columns padded to the widest cell, two spaces between; says so when there is nothing. */
export function printTable(
	io: Io,
	header: readonly string[],
	rows: readonly (readonly string[])[],
	none: string,
): Promise<void> {
	if (rows.length === 0) return write(io.stderr, `${none}\n`);
	const cells = rows.map((row) => row.map((cell) => printable(cell).replaceAll('\n', ' ')));
	const widths = header.map((name, column) =>
		Math.max(displayWidth(name), ...cells.map((row) => displayWidth(row[column] ?? ''))),
	);
	const line = (row: readonly string[]) =>
		row
			.map((cell, column) => padCells(cell, widths[column] ?? 0))
			.join('  ')
			.trimEnd();
	const lines = [paint(io, 'bold', line(header)), ...cells.map(line)];
	return write(io.stdout, `${lines.join('\n')}\n`);
}

/** `3 h ago`, `in 12 min`. */
export function relativeTime(nowMs: number, atMs: number): string {
	const seconds = Math.round(Math.abs(nowMs - atMs) / 1000);
	const [value, unit] =
		seconds < 120
			? [seconds, 's']
			: seconds < 7200
				? [Math.round(seconds / 60), 'min']
				: seconds < 172_800
					? [Math.round(seconds / 3600), 'h']
					: [Math.round(seconds / 86_400), 'd'];
	return atMs <= nowMs ? `${value} ${unit} ago` : `in ${value} ${unit}`;
}
