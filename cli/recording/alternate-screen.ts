/**
 * Whether what was shown so far ended on the alternate screen. Leaving it moves the cursor back to where it was when it
 * was entered: who was never there must not leave, or the prompt lands in the middle of what was shown.
 */
const ESCAPE = '\u001b';
const SWITCH = new RegExp(`${ESCAPE}\\[\\?(?:\\d+;)*(?:47|1047|1049)(?:;\\d+)*([hl])`, 'g');
/** Longer than any switch: one may be cut in two by the end of a text. */
const TAIL_CHARACTERS = 32;

export class AlternateScreen {
	#tail = '';
	#isOn = false;

	saw(text: string): void {
		const seen = this.#tail + text;
		for (const [, letter] of seen.matchAll(SWITCH)) this.#isOn = letter === 'h';
		this.#tail = seen.slice(-TAIL_CHARACTERS);
	}

	/** What leads back to the main screen; empty when it is there. */
	get leave(): string {
		return this.#isOn ? '\u001b[?1049l' : '';
	}
}
