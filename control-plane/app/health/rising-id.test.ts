import { expect, it } from 'vitest';
import { risingId } from './rising-id.ts';

it('is the fresh one where that is above, else the next above the last', () => {
	const [low, high] = ['0197b0a0-0000-7000-8000-00000000000f', '0197b0a0-0000-7000-8000-0000000000ff'];
	expect(risingId(high, low)).toBe(high);
	expect(risingId(low, '')).toBe(low);
	expect(risingId(low, high)).toBe('0197b0a0-0000-7000-8000-000000000100');
	expect(risingId(low, low) > low).toBe(true);
});
