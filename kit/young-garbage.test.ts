import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** Collections that were asked for, by their kind, as Node tells of them: in their order, and some turns later. */
const PROGRAM = `
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { buffersCame } from ${JSON.stringify(new URL('./young-garbage.ts', import.meta.url).href)};
const kinds = [];
const observer = new PerformanceObserver((list) => {
	for (const { detail } of list.getEntries())
		if ((detail.flags & constants.NODE_PERFORMANCE_GC_FLAGS_FORCED) !== 0) kinds.push(detail.kind);
});
observer.observe({ entryTypes: ['gc'] });
// One of our own, of another kind, without the global one: what is told before it was asked for before it.
setFlagsFromString('--expose-gc');
const collectAll = runInNewContext('gc');
const told = async () => {
	collectAll();
	while (!kinds.includes(constants.NODE_PERFORMANCE_GC_MAJOR)) await new Promise((resolve) => setImmediate(resolve));
	const before = kinds.splice(0).slice(0, -1);
	process.stdout.write(before.map((kind) => (kind === constants.NODE_PERFORMANCE_GC_MINOR ? 'minor' : 'other')).join() + ';');
};
buffersCame(16 * 1024 * 1024 - 1);
await told();
buffersCame(1);
await told();
buffersCame(1);
await told();
`;

function collections(...flags: readonly string[]): string {
	return execFileSync(process.execPath, [...flags, '--input-type=module', '-e', PROGRAM], { encoding: 'utf8' });
}

test('young objects, and only they, are collected for every 16 MiB that came', () => {
	expect(collections('--expose-gc')).toBe(';minor;;');
});

test('a Node that was started without the flag is left alone', () => {
	expect(collections()).toBe(';;;');
});
