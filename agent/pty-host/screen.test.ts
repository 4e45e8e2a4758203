import fc from 'fast-check';
import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { screenBacklogBytes, screenBytesMax } from './limits.ts';
import { OutputBuffer } from './output-buffer.ts';
import { Screen } from './screen.ts';
import { titleCharsMax } from './title.ts';
import { Turns } from './turns.ts';

const SIZE = { columns: 80, rows: 24 };
const turns = new Turns(systemClock);

async function shown(chunks: readonly Buffer[]): Promise<string> {
	const screen = new Screen(SIZE, turns, () => {});
	for (const chunk of chunks) screen.feed(chunk);
	const { bytes } = await screen.snapshot();
	screen.dispose();
	return bytes.toString('utf8');
}

/** Pieces of fewer bytes than the lines that are kept: nothing is passed over. */
async function shownInFull(text: string): Promise<string> {
	const screen = new Screen(SIZE, turns, () => {});
	for (let at = 0; at < text.length; at += 1000) {
		screen.feed(Buffer.from(text.slice(at, at + 1000)));
		await screen.snapshot();
	}
	const { bytes } = await screen.snapshot();
	screen.dispose();
	return bytes.toString('utf8');
}

test('a flood of lines is passed over, and shows what it would have shown', async () => {
	const text = Array.from({ length: 15_000 }, (_, index) => `line ${index}\r\n`).join('');
	expect(text.length).toBeGreaterThan(screenBacklogBytes);
	expect(await shown([Buffer.from(text)])).toBe(await shownInFull(text));
});

test('what changes how text looks, or where it scrolls, is never passed over', async () => {
	const flood = Array.from({ length: 15_000 }, (_, index) => `line ${index}\r\n`).join('');
	for (const before of ['\u001b[1;31m', '\u001b[5;10r\u001b[6;1H', '\u001b[?1049h', 'a\u000e'])
		expect(await shown([Buffer.from(`${before}${flood}`)]), JSON.stringify(before)).toBe(
			await shownInFull(`${before}${flood}`),
		);
});

test.each([
	['a region', '\u001b[5;10r\u001b[24;1H'],
	['a region that another buffer doesn’t have', '\u001b[5;10r\u001b[?1047h\u001b[r\u001b[?1047l\u001b[24;1H'],
	['a region of the alternate buffer', '\u001b[?1047h\u001b[5;10r\u001b[24;1H'],
	['a region from the top', '\u001b[1;23r\u001b[24;1H'],
])('below %s lines are written over each other, and none of them is passed over', async (_what, before) => {
	const flood = Array.from({ length: 40_000 }, () => 'x\r\n').join('');
	const screen = new Screen(SIZE, turns, () => {});
	screen.feed(Buffer.from(before));
	await screen.snapshot();
	for (const piece of pieces(`the longest of all lines\r\n${flood}`)) screen.feed(piece);
	expect((await screen.snapshot()).bytes.toString('utf8')).toContain('xhe longest of all lines');
	screen.dispose();
});

test.each([
	['what began a sequence', '\u001b[31mred\u001b[0', `m${'line\r\n'.repeat(25_000)}`],
	['a title', '\u001b]0;ti', `tle\u0007${'line\r\n'.repeat(25_000)}`],
	['lines without a carriage return', '', 'ab\n'.repeat(50_000)],
	['the same in the alternate buffer', '\u001b[?1049h\u001b[24;1H', 'ab\n'.repeat(50_000)],
])('%s is read to its end before a flood is passed over', async (_what, before, flood) => {
	const screen = new Screen(SIZE, turns, () => {});
	screen.feed(Buffer.from(before));
	await screen.snapshot();
	for (const piece of pieces(flood)) screen.feed(piece);
	expect((await screen.snapshot()).bytes.toString('utf8')).toBe(await shownInFull(`${before}${flood}`));
	screen.dispose();
});

/** As a pseudo-terminal gives it. */
function pieces(text: string): readonly Buffer[] {
	const bytes = Buffer.from(text);
	return Array.from({ length: Math.ceil(bytes.length / 4095) }, (_, at) => bytes.subarray(at * 4095, (at + 1) * 4095));
}

test('a flood is not read while it lasts, and little of it is kept', () => {
	const clock = new VirtualClock();
	const screen = new Screen(SIZE, new Turns(clock), () => {});
	const flood = Array.from({ length: 200_000 }, (_, index) => `line ${index}\r\n`).join('');
	for (const piece of pieces(flood)) {
		screen.feed(piece);
		expect(screen.behindBytes).toBeLessThan(screenBacklogBytes);
	}
	expect(clock.pending, 'nobody wants to read').toBe(0);
	screen.dispose();
});

test.each(['', '\u001b[1;31m', '\u001b[5;10r\u001b[6;1H', '\u001b[?1049h', 'a\u000e', '漢\u009bA'])(
	'after a flood the screen shows what it would have shown, %j between two',
	async (between) => {
		const flood = Array.from({ length: 25_000 }, (_, index) => `line ${index}\r\n`).join('');
		const parts = [`${flood}${between}`, `${flood}${between}end`];
		const inFull = await shownInFull(parts.join(''));
		expect(await shown(pieces(parts.join('')))).toBe(inFull);
		// The same where what lies between was read before the second comes.
		const screen = new Screen(SIZE, turns, () => {});
		for (const part of parts) {
			for (const piece of pieces(part)) screen.feed(piece);
			await screen.snapshot();
		}
		expect((await screen.snapshot()).bytes.toString('utf8')).toBe(inFull);
		screen.dispose();
	},
);

/** `before`, then `after`: what a screen shows that saw both, and what one shows that was given the first as a snapshot. */
async function alike(before: string, after: string): Promise<readonly [string, string]> {
	const first = new Screen(SIZE, turns, () => {});
	first.feed(Buffer.from(before));
	const { bytes } = await first.snapshot();
	const second = new Screen(SIZE, turns, () => {});
	second.feed(bytes);
	const shows = async (screen: Screen) => {
		screen.feed(Buffer.from(after));
		const text = (await screen.snapshot()).bytes.toString('utf8');
		screen.dispose();
		return text;
	};
	return [await shows(first), await shows(second)];
}

const FULL = '\u001b[?1049h\u001b[H';
test.each([
	['below a last line that is full to its end', `${FULL}\u001b[24;1H${'x'.repeat(80)}\u001b[5;1Habc$ `],
	['behind the last column', `${FULL}\u001b[24;1Hstatus\u001b[5;1H${'x'.repeat(80)}`],
	['behind the last column, after a wide character', `${FULL}\u001b[5;1H${'x'.repeat(78)}漢`],
	['in a scrolling region', `${FULL}${'line\r\n'.repeat(20)}\u001b[5;9r\u001b[9;1H`],
	['in a scrolling region from the top', `${FULL}${'line\r\n'.repeat(20)}\u001b[1;9r\u001b[9;1H`],
	['with an origin', `${FULL}\u001b[5;9r\u001b[?6h\u001b[2;3H`],
	['hidden, with a mouse and a shape', `${FULL}\u001b[?1000h\u001b[?1006h\u001b[4 q\u001b[?25l`],
	['of another shape that blinks', '\u001b[5 q$ '],
	['before lines that it draws', `${FULL}\u001b[5;1Hlqk\u001b(0lqk\u001b[7;3H`],
	['before lines that it draws with a second charset', `${FULL}\u001b)0\u001b(Aa#\u000ex#\u001b[7;3H`],
	['behind the last column, and lines to draw', `${FULL}\u001b(0\u001b[5;1H${'q'.repeat(80)}`],
	['before letters, after lines that it drew', `${FULL}\u001b(0lqk\u001b(B`],
])('a program goes on from a snapshot with its cursor %s', async (_name, before) => {
	const [there, here] = await alike(before, 'a#\r\nb\r\nc');
	expect(here).toBe(there);
	expect((await alike(before, ''))[1]).toBe((await alike(before, ''))[0]);
});

test('a snapshot is of the window as it is by then, and what came before a change was for the one before', async () => {
	const screen = new Screen(SIZE, turns, () => {});
	screen.feed(Buffer.from('x'.repeat(100)));
	screen.resize({ columns: 200, rows: 50 });
	screen.resize({ columns: 40, rows: 10 });
	screen.feed(Buffer.from(`\u001b[H\u001b[2J${'y'.repeat(41)}`));
	const { size, bytes } = await screen.snapshot();
	screen.dispose();
	expect(size).toEqual({ columns: 40, rows: 10 });
	expect(bytes.toString('utf8')).toContain('\u001b[2;2H');
});

test('a snapshot says what it must beside the text', async () => {
	const text = await shown([Buffer.from('\u001b[?1002h\u001b[?1006h\u001b[5;9r\u001b[?25l\u001b[6 q')]);
	for (const sequence of ['?1006h', '5;9r', '?25l', '6 q']) expect(text).toContain(`\u001b[${sequence}`);
	for (const sequence of ['?1006h', 'r', '?25l', ' q', '\u001b]', '\u001b(', '\u000e'])
		expect(await shown([Buffer.from('plain')])).not.toContain(sequence);
});

const titleOf = async (text: string) => {
	const before = (await shown([Buffer.from(text)])).split('\u001b]2;');
	expect(before.length).toBeLessThanOrEqual(2);
	return before[1]?.split('\u001b\\')[0];
};

test.each([
	['of either kind, the newer one', '\u001b]0;old\u0007\u001b]2;new \u6f22\u{1f600}\u001b\\', 'new \u6f22\u{1f600}'],
	['no icon name', '\u001b]2;title\u0007\u001b]1;icon\u0007', 'title'],
	['that a program took back when it left', '\u001b]2;sh\u0007\u001b[22;2t\u001b]2;vim\u0007\u001b[23;2t', 'sh'],
	['that a program took back, with its icon name', '\u001b]0;sh\u0007\u001b[22t\u001b]0;vim\u0007\u001b[23t', 'sh'],
	['without what no title bar shows', '\u001b]2;a\u0001\u0009\u007fb\u202ec\u2066d\u0007', 'abcd'],
	['without marks that turn its direction', '\u001b]2;a\u061cb\u200ec\u0007', 'abc'],
	['as much of it as there is room for', `\u001b]2;${'x'.repeat(5_000)}\u0007`, 'x'.repeat(titleCharsMax)],
	['none that a control cut off', '\u001b]2;whole\u0007\u001b]2;ha\u0085lf\u0007', 'whole'],
	['none that was cut off', '\u001b]2;whole\u0007\u001b]2;half\u0018', 'whole'],
	['none', 'text', undefined],
])('a snapshot has the title %s', async (_name, text, title) => {
	expect(await titleOf(text)).toBe(title);
});

test('titles that are put aside without an end keep to ten', async () => {
	const nested = Array.from({ length: 30 }, (_, at) => `\u001b]2;title ${at}\u0007\u001b[22;2t`).join('');
	expect(await titleOf(`${nested}${'\u001b[23;2t'.repeat(10)}`)).toBe('title 20');
	expect(await titleOf(`${nested}${'\u001b[23;2t'.repeat(50)}`)).toBe('title 20');
});

test('a snapshot fits, however colourful the screen and its scrollback are', async () => {
	const size = { columns: 400, rows: 300 };
	const screen = new Screen(size, turns, () => {});
	const cell = (at: number) => `\u001b[38;2;${at % 256};${(at >> 3) % 256};9;48;2;${(at >> 2) % 256};5;${at % 199}mx`;
	screen.feed(Buffer.from(Array.from({ length: size.columns * size.rows }, (_, at) => cell(at)).join('')));
	const { bytes } = await screen.snapshot();
	screen.dispose();
	expect(bytes.length).toBeLessThanOrEqual(screenBytesMax);
	expect(bytes.toString('utf8')).toContain('x'.repeat(size.columns));
});

test.each(['L', 'M', 'S', 'T', 'I', 'Z', 'b', '@', 'P', 'X'])(
	'a count without an end does what the screen has room for: %s',
	async (final) => {
		const text = `${Array.from({ length: 30 }, (_, row) => `line ${row}`).join('\r\n')}\u001b[5;9r\u001b[7;20Haxyz\u001b[7;20Ha`;
		const plain = final === 'b' ? 24 * 80 : 80;
		const atEnd = await shown([Buffer.from(`${text}\u001b[2147483647${final}z`)]);
		expect(atEnd).toBe(await shown([Buffer.from(`${text}\u001b[${plain}${final}z`)]));
		expect(atEnd).not.toBe(await shown([Buffer.from(`${text}z`)]));
	},
);

test.each(['L', 'M', 'S', 'T', 'I', 'Z', '@', 'P'])('a count is that many times one: %s', async (final) => {
	const text = `${Array.from({ length: 30 }, (_, row) => `line ${row}`).join('\r\n')}\u001b[7;20Habcdef\u001b[7;22H`;
	const once = `\u001b[${final}`;
	expect(await shown([Buffer.from(`${text}\u001b[3${final}z`)])).toBe(
		await shown([Buffer.from(`${text}${once.repeat(3)}z`)]),
	);
});

test('a character is repeated as often as it says', async () => {
	expect(await shown([Buffer.from('a\u001b[200bz')])).toBe(await shown([Buffer.from(`${'a'.repeat(201)}z`)]));
});

test('a sequence that the terminal throws at costs a piece of its own screen', async () => {
	const screen = new Screen(SIZE, turns, () => {});
	screen.feed(Buffer.from('before\u001b[24;80Hx\u001b[1J'));
	await screen.snapshot();
	screen.feed(Buffer.from('\u001b[5;5Hafter'));
	expect((await screen.snapshot()).bytes.toString('utf8')).toContain('after');
	expect(screen.behindBytes).toBe(0);
	screen.dispose();
});

test('other screens come between the pieces of what one has to read', async () => {
	const screen = new Screen({ columns: 1000, rows: 1000 }, turns, () => {});
	const other = new Screen(SIZE, turns, () => {});
	other.feed(Buffer.from('other'));
	const order: string[] = [];
	screen.feed(Buffer.from('\u001b[1000S'.repeat(20)));
	const both = [screen.snapshot().then(() => order.push('long')), other.snapshot().then(() => order.push('short'))];
	await Promise.all(both);
	expect(order).toEqual(['short', 'long']);
	screen.dispose();
	other.dispose();
});

test('bytes by offset, whatever was forgotten', () => {
	const step = fc.oneof(
		fc.record({ append: fc.uint8Array({ minLength: 1, maxLength: 20 }) }),
		fc.record({ forget: fc.nat(200) }),
	);
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60 }), fc.nat(), fc.nat(300), (steps, skip, bytesMax) => {
			const buffer = new OutputBuffer();
			let all = Buffer.alloc(0);
			let first = 0;
			for (const each of steps) {
				if ('append' in each) {
					buffer.append(Buffer.from(each.append));
					all = Buffer.concat([all, each.append]);
				} else {
					buffer.forget(each.forget);
					first = Math.max(first, Math.min(each.forget, all.length));
				}
			}
			expect([buffer.first, buffer.next, buffer.bytes]).toEqual([first, all.length, all.length - first]);
			expect(buffer.read(first, 1000)).toEqual(all.subarray(first, first + 1000));
			const offset = first + (skip % (all.length - first + 1));
			expect(buffer.read(offset, bytesMax)).toEqual(all.subarray(offset, offset + bytesMax));
		}),
	);
});
