/**
 * Keys among what a terminal sends while a recording plays in it. The recording may ask the terminal things (its colours,
 * its name, where the cursor is) and turn on its mouse: the answers, and reports of clicks, are no keys, whatever letters
 * they have. So are keys that come as sequences: none of those means anything to a player.
 */
const ESC = '\u001b';
const BEL = '\u0007';
/** What ends a sequence wherever it is: whoever presses Ctrl-C is heard. */
const CANCELS = new Set(['\u0003', '\u0018', '\u001a']);
/** Of a string (OSC, DCS, PM, APC, SOS): no answer is longer. */
const STRING_CHARACTERS_MAX = 4096;
/** After `ESC [ M`: button, column, row, each a byte of its own. */
const MOUSE_BYTES = 3;

type State = 'key' | 'escape' | 'sequence' | 'one' | 'string' | 'string-escape';

export class TypedKeys {
	#state: State = 'key';
	#length = 0;
	/** Bytes of a mouse report that are still to come. */
	#mouse = 0;

	/** Those of `text`, which goes on where the last one ended: one sequence may come in two pieces. */
	of(text: string): string[] {
		return [...text].filter((character) => this.#isKey(character));
	}

	#isKey(character: string): boolean {
		if (CANCELS.has(character)) {
			this.#state = 'key';
			this.#mouse = 0;
			return true;
		}
		if (this.#mouse > 0) {
			this.#mouse -= 1;
			return false;
		}
		if (this.#state === 'key' && character !== ESC) return true;
		this.#length = this.#state === 'key' ? 0 : this.#length + 1;
		const before = this.#state;
		this.#state = this.#after(character);
		// Escape alone, and then a key.
		return before === 'escape' && this.#state === 'key';
	}

	#after(character: string): State {
		switch (this.#state) {
			case 'key':
				return 'escape';
			case 'escape':
				if (character === ESC) return 'escape';
				if (character === '[') return 'sequence';
				if (character === 'O' || character === 'N') return 'one';
				return ']P_^X'.includes(character) ? 'string' : 'key';
			case 'one':
				return 'key';
			case 'sequence':
				if (character === ESC) return 'escape';
				if (character === 'M' && this.#length === 2) this.#mouse = MOUSE_BYTES;
				return character >= '@' && character <= '~' ? 'key' : 'sequence';
			case 'string-escape':
				return character === '\\' ? 'key' : 'string';
			case 'string':
				if (character === ESC) return 'string-escape';
				return character === BEL || this.#length > STRING_CHARACTERS_MAX ? 'key' : 'string';
		}
	}
}
