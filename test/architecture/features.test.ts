import { expect, test } from 'vitest';
import { readSources } from './sources.ts';

/**
 * Feature gates say how far something is rolled out, never who may do what: no use case, nothing that decides, entitles or
 * limits may so much as reach the code that evaluates them or name its type, by whatever detour. Reconcilers may.
 */
const DECIDES = /^control-plane\/app\/(?!features\/)/;
const GATES = /^control-plane\/(app\/features|adapters\/features)\//;
/** Tables and messages are everybody's; what is asked is who evaluates. */
const LIBRARY = '@openfeature/server-sdk';

test('nothing that decides who may do what can ask a feature gate', () => {
	const sources = new Map(readSources().map((source) => [source.path, source]));
	const from = [...sources.keys()].filter((path) => DECIDES.test(path) && !path.endsWith('.test.ts'));
	expect(from.length).toBeGreaterThan(150);
	const cameFrom = new Map<string, string>(from.map((path) => [path, path]));
	for (const path of cameFrom.keys()) {
		// Types too: a gate is handed over as an argument, so its type is what whoever asks it must name.
		for (const { target } of sources.get(path)?.imports ?? []) {
			if (cameFrom.has(target)) continue;
			cameFrom.set(target, path);
		}
	}
	const met = [...cameFrom].filter(([target]) => GATES.test(target) || target === LIBRARY);
	expect(met.map(([target, by]) => `${by} -> ${target}`)).toEqual([]);
});

test('the gates are there to be met', () => {
	const evaluating = readSources().filter(({ path }) => GATES.test(path));
	expect(evaluating.map(({ path }) => path)).toContain('control-plane/adapters/features/table-provider.ts');
	expect(evaluating.some(({ imports }) => imports.some(({ target }) => target === LIBRARY))).toBe(true);
});
