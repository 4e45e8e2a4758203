import { assert } from '../../kit/assert.ts';

/**
 * Which characters plain bytes stand for: G0 to G3 and which of them is in use. Full-screen programs draw lines with it
 * (`ESC ( 0`, or `ESC ) 0` and SO). `@xterm/addon-serialize` leaves it out, and the terminal keeps tables without their
 * names; so each name is designated once, to see which table it is.
 */
interface Core {
	readonly _charsetService: {
		readonly glevel: number;
		/** Undefined: US ASCII. */
		readonly _charsets: readonly (object | undefined)[];
		reset(): void;
	};
	readonly _inputHandler: { selectCharset(designation: string): boolean };
}

/** Final bytes of SCS that the terminal knows; the first of those that mean the same is the one told. */
const NAMES = [...'0AB4C5RQKY6ZH7='];
const ASCII = 'B';
const DESIGNATE = ['(', ')', '*', '+'] as const;
/** SI, SO, LS2, LS3. */
const SHIFT = ['\u000f', '\u000e', '\u001bn', '\u001bo'] as const;

let names: ReadonlyMap<object, string> | undefined;

/** Of a terminal that has read nothing yet: the tables are the same for all. */
export function learnCharsets(terminal: object): void {
	if (names !== undefined) return;
	const { _charsetService: service, _inputHandler: input } = coreOf(terminal);
	const found = new Map<object, string>();
	for (const name of NAMES) {
		input.selectCharset(`(${name}`);
		const table = service._charsets[0];
		if (table !== undefined && !found.has(table)) found.set(table, name);
	}
	service.reset();
	names = found;
}

/** What makes another terminal, with its charsets as after a start, read plain bytes as this one does. */
export function charsetSequence(terminal: object): string {
	const { glevel, _charsets: tables } = coreOf(terminal)._charsetService;
	const designated = DESIGNATE.map((into, index) => {
		const table = tables[index];
		const name = table === undefined ? ASCII : (names?.get(table) ?? ASCII);
		return name === ASCII ? '' : `\u001b${into}${name}`;
	});
	return designated.join('') + (glevel === 0 ? '' : (SHIFT[glevel] ?? ''));
}

function coreOf(terminal: object): Core {
	const { _core: core } = terminal as { readonly _core?: Partial<Core> };
	const service = core?._charsetService;
	const parts = [service?.glevel, service?._charsets, service?.reset, core?._inputHandler?.selectCharset];
	assert(!parts.includes(undefined), 'the terminal has the parts that its charsets are read from');
	return core as Core;
}
