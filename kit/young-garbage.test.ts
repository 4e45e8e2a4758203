import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** Collections that were asked for, by their kind, as Node tells of them. */
const PROGRAM = `
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { buffersCame } from ${JSON.stringify(new URL('./young-garbage.ts', import.meta.url).href)};
const kinds = [];
const observer = new PerformanceObserver((list) => {
	for (const { detail } of list.getEntries())
		if ((detail.flags & constants.NODE_PERFORMANCE_GC_FLAGS_FORCED) !== 0) kinds.push(detail.kind);
});
observer.observe({ entryTypes: ['gc'] });
const told = async () => {
	await new Promise((resolve) => setTimeout(resolve, 10));
	process.stdout.write(kinds.splice(0).map((kind) => (kind === constants.NODE_PERFORMANCE_GC_MINOR ? 'minor' : 'other')).join() + ';');
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
