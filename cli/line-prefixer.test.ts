import { describe, expect, it } from 'vitest';
import { LinePrefixer } from './line-prefixer.ts';

function build(prefix: string) {
	const out: Buffer[] = [];
	const prefixer = new LinePrefixer(prefix, async (bytes) => void out.push(Buffer.from(bytes)));
	return { prefixer, text: () => Buffer.concat(out).toString('latin1') };
}

describe('LinePrefixer', () => {
	it('puts the name before each line, however the bytes were cut', async () => {
		const { prefixer, text } = build('n1');
		for (const piece of ['a', 'b\nc', '\n', '\nd']) await prefixer.write(Buffer.from(piece));
		expect(text()).toBe('n1 | ab\nn1 | c\nn1 | \n');
		await prefixer.end();
		expect(text()).toBe('n1 | ab\nn1 | c\nn1 | \nn1 | d\n');
	});

	it('keeps bytes that are not UTF-8', async () => {
		const { prefixer, text } = build('n');
		await prefixer.write(Buffer.from([0xff, 0xfe, 0x0a]));
		expect(text()).toBe('n | \u00ff\u00fe\n');
	});

	it('cuts an endless line instead of holding it', async () => {
		const { prefixer, text } = build('n');
		for (let index = 0; index < 3; index += 1) await prefixer.write(Buffer.alloc(40_000, 0x78));
		expect(text().length).toBeGreaterThan(80_000);
	});

	it('copies without a prefix', async () => {
		const { prefixer, text } = build('');
		await prefixer.write(Buffer.from('no newline'));
		expect(text()).toBe('no newline');
	});
});
