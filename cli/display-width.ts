/**
 * How many cells of a terminal a text takes: East Asian wide letters and emoji take two, combining marks none (UAX #11,
 * as terminals read it). Names and reasons are anybody's; a table that counts UTF-16 units falls apart on them.
 */
const WIDE =
	/[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const NO_WIDTH = /[\p{Mn}\p{Me}\u200b-\u200f\u2060-\u2064\ufeff]/u;
const PLAIN = /^[\x20-\x7e]*$/;

export function displayWidth(text: string): number {
	if (PLAIN.test(text)) return text.length;
	let width = 0;
	for (const character of text) width += widthOf(character);
	return width;
}

/** Spaces behind it up to `width` cells. */
export function padCells(text: string, width: number): string {
	return text + ' '.repeat(Math.max(0, width - displayWidth(text)));
}

/** At most `width` cells; what is left out is shown by an ellipsis. */
export function cutCells(text: string, width: number): string {
	if (displayWidth(text) <= width) return text;
	let kept = '';
	let cells = 0;
	for (const character of text) {
		cells += widthOf(character);
		if (cells > width - 1) break;
		kept += character;
	}
	return width < 1 ? '' : `${kept}…`;
}

function widthOf(character: string): number {
	if (NO_WIDTH.test(character)) return 0;
	return WIDE.test(character) ? 2 : 1;
}
