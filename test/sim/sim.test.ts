import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { checkSeed } from './run.ts';

/**
 * The seeds of every run: those that once found a bug, and the first fifty. `npm run sim -- --seeds 5000` tries more;
 * a seed that fails there goes into seeds.json with what it found.
 */
const SEEDS = 50;
const found = JSON.parse(readFileSync(new URL('./seeds.json', import.meta.url), 'utf8')) as readonly {
	readonly seed: number;
	readonly found: string;
}[];

async function holds(seed: number): Promise<void> {
	const { violations } = await checkSeed(seed);
	expect(violations, `see it again: npm run sim -- --seed ${seed}`).toEqual([]);
}

describe('the real control plane and agents keep their promises', () => {
	test.each(found)('seed $seed, which found: $found', ({ seed }) => holds(seed));

	test.each(Array.from({ length: SEEDS }, (_, index) => index + 1))('seed %i', holds);
});
