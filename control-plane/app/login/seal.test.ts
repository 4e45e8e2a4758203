import { expect, test } from 'vitest';
import { systemRng } from '../../../kit/ids.ts';
import { Sealer } from './seal.ts';

const sealer = (fill: number) => new Sealer(new Uint8Array(32).fill(fill), systemRng);

test('what is sealed opens for its own purpose, under its own key, unchanged', () => {
	const sealed = sealer(1).seal('session a', 'refresh token');
	expect(Buffer.from(sealed).toString('latin1')).not.toContain('refresh');
	expect(sealer(1).open('session a', sealed)).toBe('refresh token');
	expect(sealer(1).open('session b', sealed)).toBeUndefined();
	expect(sealer(2).open('session a', sealed)).toBeUndefined();
	for (const at of [0, 12, sealed.length - 1]) {
		const changed = Uint8Array.from(sealed);
		changed.set([(changed[at] ?? 0) ^ 1], at);
		expect(sealer(1).open('session a', changed)).toBeUndefined();
	}
	expect(sealer(1).seal('session a', 'refresh token')).not.toEqual(sealed);
});

test('a text of ours is of one purpose and one key', () => {
	expect(sealer(1).mac('csrf a')).toBe(sealer(1).mac('csrf a'));
	expect(sealer(1).mac('csrf a')).not.toBe(sealer(1).mac('csrf b'));
	expect(sealer(1).mac('csrf a')).not.toBe(sealer(2).mac('csrf a'));
});
