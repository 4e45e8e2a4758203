import { beforeEach, expect, it } from 'vitest';
import { createLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { START_LINGER_MS, WriteBehind } from './write-behind.ts';

let clock: VirtualClock;
let commits: string[][];
let isBusy: boolean;
let isFull: boolean;
let writes: WriteBehind;
let lines: string[];

beforeEach(() => {
	clock = new VirtualClock();
	commits = [];
	isBusy = false;
	isFull = false;
	lines = [];
	const log = createLogger({ name: 'test', clock, destination: { write: (line) => void lines.push(line) } });
	let inside: string[] | undefined;
	const journal = new MemoryJournal({ fault: () => (isFull ? 'FULL' : undefined) });
	const { transaction } = MemoryJournal.prototype;
	journal.transaction = <T>(change: () => T): T => {
		const names: string[] = [];
		inside = names;
		const result = transaction.call(journal, change) as T;
		commits.push(names);
		return result;
	};
	writes = new WriteBehind(clock, journal, log, () => isBusy);
	write = (name, lingerMs) => writes.add({ change: () => inside?.push(name) }, lingerMs);
});
let write: (name: string, lingerMs?: number) => void;

it('commits an end at once', () => {
	write('end');
	expect(commits).toEqual([]);
	clock.advance(0);
	expect(commits).toEqual([['end']]);
});

it('lets a start wait for its end, in order, and no longer than a moment', () => {
	write('start', START_LINGER_MS);
	clock.advance(START_LINGER_MS - 1);
	write('end');
	clock.advance(0);
	expect(commits).toEqual([['start', 'end']]);
	write('start of a long one', START_LINGER_MS);
	clock.advance(START_LINGER_MS);
	expect(commits.at(-1)).toEqual(['start of a long one']);
	expect(clock.pending).toBe(0);
});

it('spaces commits while more are sure to come', () => {
	write('first');
	clock.advance(0);
	isBusy = true;
	for (const name of ['a', 'b']) {
		write(name, name === 'a' ? START_LINGER_MS : 0);
		clock.advance(4);
	}
	expect(commits).toEqual([['first']]);
	clock.advance(2);
	expect(commits.at(-1)).toEqual(['a', 'b']);
});

it('keeps what a full disk refused, and commits it in order with what came since', () => {
	isFull = true;
	write('start', START_LINGER_MS);
	expect(writes.flush()).toBe(false);
	write('end');
	clock.advance(900);
	expect(commits).toEqual([]);
	isFull = false;
	clock.advance(100);
	expect(commits).toEqual([['start', 'end']]);
});

it('fills a disk that is full for an hour with few lines', () => {
	isFull = true;
	write('start');
	clock.advance(3_600_000);
	expect(commits).toEqual([]);
	expect(lines.length).toBeGreaterThan(20);
	expect(lines.length).toBeLessThan(20 + 60 * 12 + 1);
});
