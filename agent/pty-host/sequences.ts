import { assert } from '../../kit/assert.ts';

/**
 * What one sequence may cost. The terminal takes a count up to 2^31 as it comes: it goes through it line by line, or fills
 * memory with it, in a process that every terminal of the node is in. It also keeps each payload of an OSC or DCS, 10 MB
 * of it, and each link for as long as its line is there; nothing of them is on a screen as it is told. And it throws at
 * sequences that it doesn't expect, in a timer of its own.
 */
interface Parameters {
	readonly params: Int32Array;
}

interface Core {
	registerCsiHandler(id: { readonly final: string }, handler: (parameters: Parameters) => boolean): unknown;
	writeSync(data: Uint8Array): void;
	/** The active one: each has a scrolling region of its own. */
	readonly buffer: { readonly scrollTop: number; readonly scrollBottom: number };
	readonly _inputHandler: {
		parse(data: string | Uint8Array, promised?: boolean): unknown;
		readonly _parser: {
			readonly currentState: number;
			reset(): void;
			clearOscHandler(code: number): void;
			clearDcsHandler(id: { readonly intermediates: string; readonly final: string }): void;
		};
	};
}

interface BoundedTerminal {
	readonly cols: number;
	readonly rows: number;
}

/** Characters of one REP: more than any line has; what an endless one would scroll out is not shown. */
const REPEATS_MAX = 4096;
/** Title and icon, colours, links: all that the terminal listens to. The title has a keeper of ours (title.ts). */
const OSC = [0, 1, 2, 4, 8, 10, 11, 12, 104, 110, 111, 112];
/** What is parsed at once of a usual screen, at most; where one sequence may cost more it is as many fewer. */
const PIECE_BYTES_MAX = 512;
const PIECE_BYTES_MIN = 16;
const USUAL_CELLS = 80 * 25;
/** Lines cost something however short they are. */
const COLUMNS_COUNTED_MIN = 80;
/** ParserState.GROUND of the terminal: no sequence has begun. */
const GROUND = 0;

export function boundSequences(terminal: BoundedTerminal): void {
	const core = coreOf(terminal);
	const counts: readonly (readonly [finals: string, max: () => number])[] = [
		// More lines or stops than there are do what all of them do.
		['LMST', () => terminal.rows],
		['IZ', () => terminal.cols],
		['b', () => Math.min(REPEATS_MAX, terminal.rows * terminal.cols)],
	];
	for (const [finals, max] of counts)
		for (const final of finals)
			core.registerCsiHandler({ final }, ({ params }) => {
				params[0] = Math.min(params[0] ?? 0, max());
				// The terminal's own comes next and sees the same parameters.
				return false;
			});
	const { _inputHandler: input } = core;
	for (const code of OSC) input._parser.clearOscHandler(code);
	input._parser.clearDcsHandler({ intermediates: '$', final: 'q' });
	const parse = input.parse.bind(input);
	input.parse = (data, promised) => {
		try {
			return parse(data, promised);
		} catch {
			// What is left of the piece is lost, to this screen and to nobody else.
			input._parser.reset();
			return undefined;
		}
	};
}

/** Parses it now, not in a timer of the terminal's own, so that what it costs is known. */
export function writeSync(terminal: object, bytes: Uint8Array): void {
	coreOf(terminal).writeSync(bytes);
}

/** Whether what comes next is text, and lines of it scroll the whole screen: else they may change, or miss, what is on it. */
export function scrollsWithText(terminal: BoundedTerminal): boolean {
	const { buffer, _inputHandler: input } = coreOf(terminal);
	return input._parser.currentState === GROUND && buffer.scrollTop === 0 && buffer.scrollBottom === terminal.rows - 1;
}

/** Of output that is parsed without a pause: the terminal gives way between pieces only. */
export function pieceBytesMax({ cols, rows }: BoundedTerminal): number {
	const cells = rows * Math.max(cols, COLUMNS_COUNTED_MIN);
	return Math.max(PIECE_BYTES_MIN, Math.min(PIECE_BYTES_MAX, Math.floor((PIECE_BYTES_MAX * USUAL_CELLS) / cells)));
}

function coreOf(terminal: object): Core {
	const { _core: core } = terminal as { readonly _core?: Partial<Core> };
	const parser = core?._inputHandler?._parser;
	const parts = [
		core?.registerCsiHandler,
		core?._inputHandler?.parse,
		core?.writeSync,
		parser?.clearOscHandler,
		parser?.clearDcsHandler,
		parser?.currentState,
		core?.buffer?.scrollBottom,
	];
	assert(!parts.includes(undefined), 'the terminal has the parts that its sequences are bounded by');
	return core as Core;
}
