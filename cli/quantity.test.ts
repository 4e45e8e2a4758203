import { expect, test } from 'vitest';
import { measured, quantity, rate } from './quantity.ts';
import { sparkline } from './sparkline.ts';

test('numbers are short and carry the unit that people use', () => {
	const cases: readonly (readonly [number, string, string])[] = [
		[431.5, 'watts', '432 W'],
		[85_899_345_920, 'bytes', '80 GiB'],
		[0.5512, 'ratio', '55.1 %'],
		[1_410_000_000, 'hertz', '1.41 GHz'],
		[51, 'celsius', '51 °C'],
		[1, 'bool', 'yes'],
		[0x48, 'bitmask', '0x48'],
		[3, 'count', '3'],
		[0, 'bytes', '0 B'],
	];
	for (const [value, unit, text] of cases) expect(quantity(value, unit)).toBe(text);
	expect(rate(12_500_000, 'bytes')).toBe('12.5 MB/s');
	expect(rate(400, 'joules')).toBe('400 W');
});

test('a value that is older than its sample says so, in seconds as long as they matter', () => {
	const of = (ageSeconds?: number) => measured({ key: 'temperature.gpu', value: 34, unit: 'celsius', ageSeconds });
	expect([undefined, 4.4, 119, 121, 7000, 26_000].map(of)).toEqual([
		...['34 °C', '34 °C, 4 s old', '34 °C, 119 s old'],
		...['34 °C, 2 min old', '34 °C, 117 min old', '34 °C, 7 h old'],
	]);
});

test('a metric that is a moment is shown as one', () => {
	const boot = { key: 'boot.time', value: 1_764_237_601, unit: 'seconds' };
	expect(measured(boot)).toBe('2025-11-27T10:00:01Z');
	expect(measured({ ...boot, key: 'probe.age', value: 3 })).toBe('3 s');
});

test('a sparkline goes from the least to the most, with gaps where nothing was measured', () => {
	expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 60)).toBe('▁▂▃▄▅▆▇█');
	expect(sparkline([5, undefined, 5], 60)).toBe('▁ ▁');
	expect(sparkline([100, 107], 60)).toBe('▁█');
	expect(sparkline([0, 9, 0, 0], 2)).toBe('█▁');
	expect([
		...sparkline(
			Array.from({ length: 500 }, (_, index) => index),
			60,
		),
	]).toHaveLength(60);
	expect(sparkline([undefined], 60)).toBe(' ');
});
