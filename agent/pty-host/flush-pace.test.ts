import { expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { FlushPace, floodBytes, gatherMs, pauseMs } from './flush-pace.ts';

const GATHER_BYTES = 32 << 10;
/** What a pseudo-terminal gives at once. */
const READ_BYTES = 4095;

/** A program that writes; how many bytes each flush had. */
function program() {
	const clock = new VirtualClock();
	const flushed: number[] = [];
	let unsentBytes = 0;
	const pace = new FlushPace(clock, GATHER_BYTES, () => {
		if (unsentBytes > 0) flushed.push(unsentBytes);
		unsentBytes = 0;
	});
	const write = (bytes: number) => {
		unsentBytes += bytes;
		pace.came(bytes, unsentBytes);
	};
	const flood = () => {
		for (let bytes = 0; bytes < floodBytes; bytes += READ_BYTES) {
			write(READ_BYTES);
			clock.advance(0);
		}
		pace.now();
		flushed.length = 0;
	};
	return { clock, pace, flushed, write, flood };
}

test('an echo goes in its turn, and so does a screen that comes in pieces', () => {
	const { clock, flushed, write } = program();
	write(1);
	expect(flushed).toEqual([1]);
	write(2);
	write(3);
	expect(flushed).toEqual([1]);
	clock.advance(0);
	expect(flushed).toEqual([1, 5]);
	write(READ_BYTES);
	clock.advance(0);
	write(READ_BYTES);
	expect(flushed).toEqual([1, 5, READ_BYTES, READ_BYTES]);
});

test('a flood goes in large pieces, and the last of it soon', () => {
	const { clock, flushed, write, flood } = program();
	flood();
	for (let read = 0; read < 20; read += 1) {
		write(READ_BYTES);
		clock.advance(0);
	}
	const whole = Math.ceil(GATHER_BYTES / READ_BYTES) * READ_BYTES;
	expect(flushed).toEqual([whole, whole]);
	clock.advance(gatherMs);
	expect(flushed).toEqual([whole, whole, 20 * READ_BYTES - 2 * whole]);
});

test('after a pause the first bytes go at once again', () => {
	const { clock, flushed, write, flood } = program();
	flood();
	write(1);
	expect(flushed).toEqual([]);
	clock.advance(gatherMs + pauseMs);
	expect(flushed).toEqual([1]);
	write(1);
	expect(flushed).toEqual([1, 1]);
});

test('answers go at once, however many there were before and how soon each follows what was asked', () => {
	const { clock, pace, flushed, write } = program();
	for (let asked = 0; asked < 100; asked += 1) {
		pace.asked();
		write(500);
		expect(flushed).toHaveLength(asked + 1);
		clock.advance(1);
	}
});

test('a flood that was held back goes on as one', () => {
	const { clock, pace, flushed, write, flood } = program();
	flood();
	clock.advance(pauseMs + 1);
	pace.resumed();
	write(READ_BYTES);
	expect(flushed).toEqual([]);
});

test('what waits goes when nothing more can come', () => {
	const { pace, flushed, write, flood } = program();
	flood();
	write(1);
	pace.now();
	expect(flushed).toEqual([1]);
});
