import { expect, test } from 'vitest';
import { LogRing } from './log-ring.ts';

test('keeps whole lines, the newest, within its size, and passes all of them on', () => {
	const passed: string[] = [];
	const ring = new LogRing({ write: (line) => passed.push(line) }, 100);
	const lines = Array.from({ length: 50 }, (_, index) => `line ${index}\n`);
	for (const line of lines) {
		ring.write(line);
		expect(Buffer.byteLength(ring.text())).toBeLessThanOrEqual(100);
		expect(ring.text().endsWith(line)).toBe(true);
	}
	expect(passed).toEqual(lines);
	expect(lines.join('').endsWith(ring.text())).toBe(true);
	expect(ring.text().length).toBeGreaterThan(40);
	expect(ring.written).toBe(50);
	expect([ring.text(48), ring.text(50)]).toEqual(['line 48\nline 49\n', '']);
	expect(ring.text(1)).toBe(ring.text());
	ring.write(`${'é'.repeat(200)}\n`);
	expect(ring.text()).toBe('');
});
