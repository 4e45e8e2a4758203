import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { mutate, readAreas } from '../mutants/mutants.ts';

/** Each promise in test/mutants names code and a test that are there; `npm run mutants` shows that the test sees it. */
const root = join(import.meta.dirname, '../..');

describe.each(readAreas(root).map(({ name, mutants }) => [name, mutants] as const))(
	'mutants of %s',
	(_name, mutants) => {
		it('break one place of the code each', () => {
			for (const mutant of mutants) mutate(readFileSync(join(root, mutant.file), 'utf8'), mutant);
		});

		it('name a test that is there', () => {
			for (const { test, title = '' } of mutants) {
				// Of a title with values in it the list names a part without.
				expect(textOf(test).replaceAll('\\', ''), test).toContain(title);
			}
		});

		it('say each promise once', () => {
			const promises = mutants.map(({ promise }) => promise);
			expect(promises).toEqual([...new Set(promises)]);
		});
	},
);

/** Of a test file, and of the suites that it runs. */
function textOf(test: string): string {
	const text = readFileSync(join(root, test), 'utf8');
	const suites = [...text.matchAll(/from '\.\/([a-z-]+-suite\.ts)'/g)].map(([, name = '']) => name);
	return [text, ...suites.map((name) => readFileSync(join(root, dirname(test), name), 'utf8'))].join('\n');
}
