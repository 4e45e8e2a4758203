import { assert } from '../../kit/assert.ts';

/**
 * What `@xterm/addon-serialize` 0.14 leaves out, as sequences to write after what it gives: the scrolling region, how the
 * mouse is told, the shape of the cursor, whether it is shown, and where it stands. It does say where by steps from where
 * its last line ended, but counts a line that is full to its end one column too far. Public interfaces have none of this,
 * so the parts of the terminal are named here, and a terminal without them is an assertion.
 */
interface Core {
	readonly buffer: {
		readonly x: number;
		readonly y: number;
		readonly ybase: number;
		readonly scrollTop: number;
		readonly scrollBottom: number;
	};
	readonly coreService: {
		readonly isCursorHidden: boolean;
		readonly decPrivateModes: {
			readonly origin: boolean;
			readonly cursorStyle?: string;
			readonly cursorBlink?: boolean;
		};
	};
	readonly coreMouseService: { readonly activeEncoding: string };
}

interface ScreenTerminal {
	readonly cols: number;
	readonly rows: number;
	readonly buffer: {
		readonly active: {
			getLine(y: number): { getCell(x: number): { getChars(): string; getWidth(): number } | undefined } | undefined;
		};
	};
}

const CSI = '\u001b[';
/** DECSCUSR of a cursor that blinks; the next number is the same one steady. */
const SHAPES: Readonly<Record<string, number>> = { block: 1, underline: 3, bar: 5 };
const MOUSE: Readonly<Record<string, string>> = { SGR: `${CSI}?1006h`, SGR_PIXELS: `${CSI}?1016h` };

export function unserialized(terminal: ScreenTerminal): string {
	const { buffer, coreService, coreMouseService } = coreOf(terminal);
	const { scrollTop, scrollBottom } = buffer;
	const { origin, cursorStyle, cursorBlink } = coreService.decPrivateModes;
	const isWhole = scrollTop === 0 && scrollBottom === terminal.rows - 1;
	const shape = cursorStyle === undefined ? undefined : SHAPES[cursorStyle];
	return [
		// Both of these move the cursor, so it is placed after them.
		isWhole ? '' : `${CSI}${scrollTop + 1};${scrollBottom + 1}r`,
		place(terminal, buffer, origin ? scrollTop : 0),
		MOUSE[coreMouseService.activeEncoding] ?? '',
		shape === undefined ? '' : `${CSI}${shape + (cursorBlink === false ? 1 : 0)} q`,
		coreService.isCursorHidden ? `${CSI}?25l` : '',
	].join('');
}

/** `top`: the line that lines are counted from. */
function place(terminal: ScreenTerminal, { x, y, ybase }: Core['buffer'], top: number): string {
	const row = y - top + 1;
	if (x < terminal.cols) return `${CSI}${row};${x + 1}H`;
	// Behind the last column: only a character brings it there, and the next one goes to the next line.
	const line = terminal.buffer.active.getLine(ybase + y);
	const last = line?.getCell(terminal.cols - 1);
	const isWide = last?.getWidth() === 0;
	const cell = isWide ? line?.getCell(terminal.cols - 2) : last;
	return `${CSI}${row};${terminal.cols - (isWide ? 1 : 0)}H${cell?.getChars() || ' '}`;
}

function coreOf(terminal: object): Core {
	const { _core: core } = terminal as { readonly _core?: Partial<Core> };
	const parts = [core?.buffer?.scrollTop, core?.coreService?.isCursorHidden, core?.coreMouseService?.activeEncoding];
	assert(!parts.includes(undefined), 'the terminal has the parts that its screen is read from');
	return core as Core;
}
