import { expect, test } from 'vitest';
import { VirtualClock } from '../kit/virtual-clock.ts';
import { countOf } from './record-count.ts';
import { testIo } from './test-io.ts';

async function count(isTerminal: boolean, isQuiet: boolean): Promise<string> {
	const clock = new VirtualClock();
	const io = { ...testIo({}, '', { stderr: isTerminal }), clock };
	async function* records() {
		for (let seq = 1; seq <= 5; seq += 1) {
			yield seq;
			clock.advance(150);
		}
	}
	const seen: number[] = [];
	for await (const seq of countOf(io, 'checked', isQuiet).each(records())) seen.push(seq);
	expect(seen).toEqual([1, 2, 3, 4, 5]);
	return io.err();
}

test('a whole log that is read shows how far, on a terminal, and all of it at the end', async () => {
	const shown = (await count(true, false)).split('\r\u001b[K').slice(1);
	expect(shown).toEqual(['1 records checked', '3 records checked', '5 records checked', '5 records checked\n']);
});

test('nothing is drawn into a file, nor beside the records themselves', async () => {
	expect(await count(false, false)).toBe('');
	expect(await count(true, true)).toBe('');
});
