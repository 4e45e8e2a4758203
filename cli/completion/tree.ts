import { COMMON, OF_CALLS } from '../command.ts';
import { VERBS } from '../verbs.ts';
import { OPTIONS } from './options.ts';

/** What may come next on a command line, by the words that are there: `task` -> `list`, `show`, ... */
export function wordsByPath(): ReadonlyMap<string, readonly string[]> {
	const words = new Map<string, string[]>([['', VERBS.map((verb) => verb.name)]]);
	for (const name of Object.keys(OPTIONS)) {
		const path = name.split(' ');
		for (let length = 1; length < path.length; length += 1) {
			const before = path.slice(0, length).join(' ');
			const next = words.get(before) ?? [];
			const word = path[length] ?? '';
			if (!next.includes(word)) words.set(before, [...next, word]);
		}
	}
	return words.set('completion', ['bash', 'zsh', 'fish']);
}

/** `--` and a name, for each option of each verb. */
export function optionsByVerb(): ReadonlyMap<string, readonly string[]> {
	return new Map(
		Object.entries(OPTIONS).map(([verb, text]) => {
			const words = text.split(' ');
			const own = words.filter((name) => name !== '' && name !== '!' && name !== '-');
			const common = Object.keys(COMMON).filter((name) => name !== 'json' || !words.includes('-'));
			const calls = words.includes('!') ? [] : Object.keys(OF_CALLS);
			return [verb, [...own, ...common, ...calls].map((name) => `--${name}`)];
		}),
	);
}
