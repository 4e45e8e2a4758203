import { assert } from '../../kit/assert.ts';

/**
 * At most so many code points join one cell. The terminal keeps each that joins for as long as the cell is there, so a
 * program that writes combining characters without an end would fill the memory of the host, which is everybody's.
 * Text has a handful; one more than these begins a cell of its own.
 */
const JOINED_MAX = 16;

/** xterm.js packs what it carries from one character to the next: state, width (2 bits), whether it joins (1 bit). */
const STATE_SHIFT = 3;
const WIDTH_AND_JOIN = 7;
const JOINS = 1;
const ONE_CELL = 2;

interface Provider {
	wcwidth(codepoint: number): 0 | 1 | 2;
	charProperties(codepoint: number, preceding: number): number;
}

interface UnicodeTerminal {
	readonly unicode: { register(provider: Provider & { readonly version: string }): void; activeVersion: string };
}

/** Counts in the state, which the terminal's own provider leaves empty. */
export function boundCombining(terminal: UnicodeTerminal): void {
	const { _core: core } = terminal as { readonly _core?: { readonly unicodeService?: { _activeProvider?: Provider } } };
	const plain = core?.unicodeService?._activeProvider;
	assert(plain !== undefined, 'the terminal says how wide characters are');
	terminal.unicode.register({
		version: 'bounded',
		wcwidth: (codepoint) => plain.wcwidth(codepoint),
		charProperties(codepoint, preceding) {
			const properties = plain.charProperties(codepoint, preceding);
			if ((properties & JOINS) === 0) return properties;
			const joined = preceding >>> STATE_SHIFT;
			return joined >= JOINED_MAX ? ONE_CELL : ((joined + 1) << STATE_SHIFT) | (properties & WIDTH_AND_JOIN);
		},
	});
	terminal.unicode.activeVersion = 'bounded';
}
