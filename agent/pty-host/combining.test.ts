import headless from '@xterm/headless';
import { expect, test } from 'vitest';
import { boundCombining } from './combining.ts';

/** Each cell of the first line, after this text in pieces of `pieceLength`. */
async function cells(text: string, pieceLength = text.length): Promise<readonly string[]> {
	const terminal = new headless.Terminal({ cols: 20, rows: 5, scrollback: 10, allowProposedApi: true });
	boundCombining(terminal);
	for (let at = 0; at < text.length; at += pieceLength)
		await new Promise<void>((resolve) => terminal.write(text.slice(at, at + pieceLength), resolve));
	const line = terminal.buffer.active.getLine(0);
	const found = Array.from({ length: 20 }, (_, x) => line?.getCell(x)?.getChars() ?? '');
	terminal.dispose();
	return found;
}

test('combining characters of real text stay with their letter', async () => {
	expect((await cells('e\u0301a\u0308\u0323漢\u0301z')).filter((cell) => cell !== '')).toEqual([
		'e\u0301',
		'a\u0308\u0323',
		'漢\u0301',
		'z',
	]);
});

test.each([100_000, 7])('without an end they fill no cell, written %i at a time', async (pieceLength) => {
	const found = await cells(`a${'\u0301'.repeat(pieceLength === 7 ? 200 : 100_000)}`, pieceLength);
	expect(Math.max(...found.map((cell) => cell.length))).toBe(17);
});
