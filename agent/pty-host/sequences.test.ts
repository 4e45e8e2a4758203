import headless from '@xterm/headless';
import { expect, test } from 'vitest';
import { boundSequences } from './sequences.ts';

interface Links {
	readonly _core: { readonly _oscLinkService: { readonly _dataByLinkId: ReadonlyMap<number, unknown> } };
}

test('titles and links are not kept', async () => {
	const terminal = new headless.Terminal({ cols: 20, rows: 5, allowProposedApi: true });
	boundSequences(terminal);
	const titles: string[] = [];
	terminal.onTitleChange((title) => void titles.push(title));
	const text = 'a\u001b]8;;http://x/\u0007b\u001b]2;t\u0007c\u001b]8;;\u0007d\u001bP$qm\u001b\\e';
	await new Promise<void>((resolve) => terminal.write(text, resolve));
	expect(terminal.buffer.active.getLine(0)?.translateToString(true)).toBe('abcde');
	expect(titles).toEqual([]);
	expect((terminal as unknown as Links)._core._oscLinkService._dataByLinkId.size).toBe(0);
	terminal.dispose();
});
