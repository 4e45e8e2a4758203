import { expect, test } from 'vitest';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { TELEMETRY_LIMITS_DEFAULT } from './limits.ts';
import { PageTurns } from './page-turns.ts';

const LIMITS = {
	...TELEMETRY_LIMITS_DEFAULT,
	...{ projectPagesPerSecondMax: 1, projectPagesBurstMax: 10, projectPageNodesPerTurn: 16 },
	...{ projectPagesAtOnceMax: 3, projectPagesAtOncePerProjectMax: 2 },
};

test('a page with many nodes costs more turns, and its own project alone waits for them', () => {
	const clock = new VirtualClock();
	const turns = new PageTurns(clock, LIMITS);
	turns.take('a');
	turns.takeForNodes('a', 16);
	turns.take('a');
	turns.takeForNodes('a', 8 * 16);
	turns.take('a');
	expect(() => turns.take('a')).toThrow('too often');
	turns.take('b');
	clock.advance(1000);
	turns.take('a');
	expect(() => turns.takeForNodes('a', 17)).toThrow('too often');
	// The largest can be paid for.
	expect(() => turns.takeForNodes('c', 1_000_000)).not.toThrow();
});

test('only so many at once, of one project and of all, each until its answer has left', () => {
	const turns = new PageTurns(new VirtualClock(), LIMITS);
	const [first, second, third] = [new AbortController(), new AbortController(), new AbortController()];
	turns.enter('a', first.signal);
	turns.enter('a', second.signal);
	expect(() => turns.enter('a', new AbortController().signal)).toThrow('2 pages of this project');
	turns.enter('b', third.signal);
	expect(() => turns.enter('c', new AbortController().signal)).toThrow('3 pages are being made');
	second.abort();
	second.abort();
	turns.enter('c', new AbortController().signal);
	expect(() => turns.enter('c', new AbortController().signal)).toThrow('3 pages are being made');
	expect(() => turns.enter('d', AbortSignal.abort())).toThrow();
});
