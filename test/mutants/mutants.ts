import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What the product promises, line by line: where the code keeps it, and the test that sees it when the code no longer
 * does. Each entry of `<area>.json` breaks one place of the code; its test must turn red. `npm run mutants` tries that;
 * `npm run check` holds every entry to places and tests that exist.
 */
export interface Mutant {
	/** What is promised, as its user would say it. */
	readonly promise: string;
	/** Of the repository. */
	readonly file: string;
	/** Occurs once in `file`. */
	readonly find: string;
	readonly replace: string;
	readonly project: string;
	readonly test: string;
	/** Of the test, or of its describe: a part of the name. Absent: the whole file. */
	readonly title?: string;
}

export interface Area {
	readonly name: string;
	readonly mutants: readonly Mutant[];
}

export function readAreas(root: string): readonly Area[] {
	const folder = join(root, 'test/mutants');
	return readdirSync(folder)
		.filter((name) => name.endsWith('.json'))
		.toSorted()
		.map((name) => ({
			name: name.slice(0, -'.json'.length),
			mutants: JSON.parse(readFileSync(join(folder, name), 'utf8')) as readonly Mutant[],
		}));
}

/** The text of a file with the one place changed. Throws when there isn't exactly one. */
export function mutate(text: string, { file, find, replace }: Mutant): string {
	const at = text.indexOf(find);
	if (find === '' || at === -1) throw new Error(`${file} has no ${JSON.stringify(find)}: the code moved on`);
	if (text.includes(find, at + 1))
		throw new Error(`${file} has ${JSON.stringify(find)} more than once: name more of it`);
	if (find === replace) throw new Error(`${file}: ${JSON.stringify(find)} stays as it is`);
	return text.slice(0, at) + replace + text.slice(at + find.length);
}
