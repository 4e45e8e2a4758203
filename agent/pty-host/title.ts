import { assert } from '../../kit/assert.ts';

/**
 * The window's title (OSC 0 and 2) with the stack that full-screen programs keep the one before on (CSI 22 and 23 t). The
 * terminal's own keeper of titles takes 10 MB and any character; this one takes what a title bar shows.
 */
export const titleCharsMax = 256;
/** As the terminal's own. */
const STACK_MAX = 10;
const TITLES = [0, 2] as const;
/** Of CSI t: nothing or 0 is icon name and title, 2 the title alone. */
const OF_TITLE: ReadonlySet<number> = new Set([0, 2]);

interface OscHandler {
	start(): void;
	/** Code points. */
	put(data: Uint32Array, start: number, end: number): void;
	end(isWhole: boolean): boolean;
}

interface Parser {
	/** The terminal's own way to register one leaves out CSI t, unless it may move windows. */
	registerCsiHandler(
		id: { readonly final: string },
		handler: (parameters: { readonly params: Int32Array; readonly length: number }) => boolean,
	): unknown;
	readonly _oscParser: { registerHandler(code: number, handler: OscHandler): unknown };
}

export class Title {
	#text = '';
	readonly #stack: string[] = [];

	constructor(terminal: object) {
		const parser = parserOf(terminal);
		for (const code of TITLES) parser._oscParser.registerHandler(code, new Payload((text) => this.#set(text)));
		parser.registerCsiHandler({ final: 't' }, ({ params, length }) => {
			const what = length > 1 ? (params[1] ?? 0) : 0;
			if (params[0] === 22 && OF_TITLE.has(what)) this.#push();
			else if (params[0] === 23 && OF_TITLE.has(what)) this.#text = this.#stack.pop() ?? this.#text;
			return false;
		});
	}

	/** What sets it in another terminal; empty where none was set. */
	get sequence(): string {
		return this.#text === '' ? '' : `\u001b]2;${this.#text}\u001b\\`;
	}

	#set(text: string): void {
		this.#text = text;
	}

	#push(): void {
		this.#stack.push(this.#text);
		if (this.#stack.length > STACK_MAX) this.#stack.shift();
	}
}

/** Of one OSC: keeps no more than a title has. */
class Payload implements OscHandler {
	readonly #onText: (text: string) => void;
	#points: number[] = [];

	constructor(onText: (text: string) => void) {
		this.#onText = onText;
	}

	start(): void {
		this.#points = [];
	}

	put(data: Uint32Array, start: number, end: number): void {
		for (let at = start; at < end && this.#points.length < titleCharsMax; at += 1) {
			const point = data[at] ?? 0;
			if (isShown(point)) this.#points.push(point);
		}
	}

	end(isWhole: boolean): boolean {
		if (isWhole) this.#onText(String.fromCodePoint(...this.#points));
		this.#points = [];
		return true;
	}
}

/** No controls (C0, DEL, C1), nothing that turns the direction of what follows, no half of a pair. */
function isShown(point: number): boolean {
	if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return false;
	if (point === 0x061c || point === 0x200e || point === 0x200f || (point >= 0x2028 && point <= 0x202e)) return false;
	if (point >= 0x2066 && point <= 0x2069) return false;
	return point < 0xd800 || (point > 0xdfff && point <= 0x10ffff);
}

function parserOf(terminal: object): Parser {
	const { _core: core } = terminal as {
		readonly _core?: { readonly _inputHandler?: { readonly _parser?: Partial<Parser> } };
	};
	const parser = core?._inputHandler?._parser;
	const parts = [parser?.registerCsiHandler, parser?._oscParser?.registerHandler];
	assert(!parts.includes(undefined), 'the terminal has the parts that its title is read by');
	return parser as Parser;
}
