/**
 * asciicast v2 (docs.asciinema.org/manual/asciicast/v2): one JSON document a line, a header and then events
 * `[seconds, code, text]`. Text is UTF-8: bytes that are not are shown as U+FFFD, and counted by whoever writes.
 */
export interface CastHeader {
	readonly width: number;
	readonly height: number;
	/** Seconds since the epoch. */
	readonly timestamp: number;
	readonly title: string;
	readonly env: Readonly<Record<string, string>>;
	/** Of ours: its id, which players pass over. Two recordings that show the same are two contents. */
	readonly recording?: string;
}

/** `o` output, `i` input, `m` marker, `r` resize (`80x24`). */
export type CastCode = 'o' | 'i' | 'm' | 'r';

export interface CastEvent {
	/** Since the start of the recording. */
	readonly atMs: number;
	readonly code: CastCode;
	readonly text: string;
}

/** Of one line when reading: above what any of ours has (an output chunk of 128 KiB, escaped at worst six times). */
export const CAST_LINE_CHARACTERS_MAX = 1024 * 1024;

export function encodeCastHeader(header: CastHeader): string {
	return `${JSON.stringify({ version: 2, ...header })}\n`;
}

export function encodeCastEvent({ atMs, code, text }: CastEvent): string {
	// Microseconds, written as a plain decimal: what players expect, and stable.
	return `[${(Math.max(0, atMs) / 1000).toFixed(6)},"${code}",${JSON.stringify(text)}]\n`;
}

/** Undefined for what is no header of version 2. */
export function decodeCastHeader(line: string): CastHeader | undefined {
	const value = parse(line);
	if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
	const { version, width, height, timestamp, title, env } = value as Record<string, unknown>;
	if (version !== 2 || !isSize(width) || !isSize(height)) return undefined;
	return {
		width,
		height,
		timestamp: typeof timestamp === 'number' ? timestamp : 0,
		title: typeof title === 'string' ? title : '',
		env: typeof env === 'object' && env !== null ? textsOf(env) : {},
	};
}

/** Undefined for what is no event; events of kinds that came later are events with an unknown code, so also undefined. */
export function decodeCastEvent(line: string): CastEvent | undefined {
	const value = parse(line);
	if (!Array.isArray(value) || value.length !== 3) return undefined;
	const [seconds, code, text] = value as [unknown, unknown, unknown];
	if (typeof seconds !== 'number' || !(seconds >= 0) || !Number.isFinite(seconds) || typeof text !== 'string')
		return undefined;
	if (code !== 'o' && code !== 'i' && code !== 'm' && code !== 'r') return undefined;
	return { atMs: seconds * 1000, code, text };
}

/** `80x24`. */
export function sizeOfResize(text: string): { readonly columns: number; readonly rows: number } | undefined {
	const [, columns, rows] = /^(\d{1,5})x(\d{1,5})$/.exec(text) ?? [];
	return columns === undefined || rows === undefined ? undefined : { columns: Number(columns), rows: Number(rows) };
}

function parse(line: string): unknown {
	if (line.length > CAST_LINE_CHARACTERS_MAX) return undefined;
	try {
		return JSON.parse(line);
	} catch {
		return undefined;
	}
}

function isSize(value: unknown): value is number {
	return Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= 65_535;
}

function textsOf(record: object): Record<string, string> {
	return Object.fromEntries(
		Object.entries(record).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
	);
}

/**
 * Bytes of a terminal as text, chunk by chunk: a character that a chunk cuts waits for its rest. Counts what it had to
 * replace.
 */
export class CastText {
	readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
	#replaced = 0;

	push(bytes: Uint8Array): string {
		return this.#counted(this.#decoder.decode(bytes, { stream: true }));
	}

	/** What was still waiting. */
	end(): string {
		return this.#counted(this.#decoder.decode());
	}

	get replaced(): number {
		return this.#replaced;
	}

	#counted(text: string): string {
		for (let at = text.indexOf('\ufffd'); at !== -1; at = text.indexOf('\ufffd', at + 1)) this.#replaced += 1;
		return text;
	}
}
