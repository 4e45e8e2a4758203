import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { ChannelSize } from './pty-host.ts';
import { Screen } from './screen.ts';
import { Turns } from './turns.ts';

/**
 * Screens and somebody who types share one loop, as in the host: how little of it is taken at once (here), and how the rest is
 * shared (turns.test.ts). How fast an echo is meanwhile, the bench says (terminal-fleet).
 */
const turns = new Turns(systemClock);

const HUGE = { columns: 1000, rows: 1000 };
const USUAL = { columns: 80, rows: 24 };

/** Of what was read in one turn after another, on a clock that goes on by so much whenever somebody looks at it. */
function piecesOf(size: ChannelSize, lookMs: number): readonly number[] {
	let nowMs = 0;
	const clock = { ...systemClock, monotonic: () => (nowMs += lookMs), defer: () => {} };
	const screen = new Screen(size, new Turns(clock), () => {});
	screen.feed(Buffer.from('\u001b[38;2;1;2;3mx'.repeat(30_000)));
	const pieces = Array.from({ length: 40 }, () => {
		const before = screen.behindBytes;
		screen.read(nowMs);
		return before - screen.behindBytes;
	});
	screen.dispose();
	return pieces;
}

test('what is costly is read in pieces that become small at once, and by and by large again where it is not', () => {
	const costly = piecesOf(USUAL, 5);
	expect(costly.slice(0, 2)).toEqual([32, 16]);
	expect(costly.slice(1).every((bytes) => bytes === 16)).toBe(true);
	const cheap = piecesOf(USUAL, 0.001);
	expect(cheap.slice(0, 3)).toEqual([32, 64, 96]);
	expect(cheap.at(-1)).toBe(512);
	expect(piecesOf(HUGE, 0.001).at(-1), 'of a screen that is large each may cost much').toBe(16);
});

test.each([USUAL, HUGE])(
	'output that is costly on a screen of $columns columns is known as such, and plain text is not',
	async (size) => {
		const screen = new Screen(size, turns, () => {});
		const isSlow = async (text: string, isCostly: boolean) => {
			await expect
				.poll(
					() => {
						if (screen.behindBytes === 0) screen.feed(Buffer.from(text.repeat(Math.ceil((256 << 10) / text.length))));
						return screen.isSlow;
					},
					{ interval: 20 },
				)
				.toBe(isCostly);
		};
		await isSlow('plain text ', false);
		await isSlow('\u001b[38;2;1;2;3mx\u001b[48;5;7my\u001b[1000Sx\u001b[4096b', true);
		screen.dispose();
	},
	60_000,
);

test('what one terminal has to be read is not read faster because it has more', () => {
	// The loop's time goes on by a step, and by so much whenever somebody who reads looks at it.
	const idle = new VirtualClock();
	let lookedMs = 0;
	const monotonic = () => {
		lookedMs += 0.05;
		return idle.monotonic() + lookedMs;
	};
	const shared = new Turns({
		now: monotonic,
		monotonic,
		setTimer: (callback, delayMs) => idle.setTimer(callback, delayMs),
		defer: (callback) => void idle.setTimer(callback, 0.25),
	});
	// More than anybody reads in that time.
	const output = Buffer.from('\u001b[38;2;1;2;3mx'.repeat(200_000));
	const screens = [1, 1, 4].map((times) => {
		const screen = new Screen(USUAL, shared, () => {});
		for (let each = 0; each < times; each += 1) screen.feed(output);
		return { screen, fedBytes: times * output.length };
	});
	const typist = {};
	for (let step = 0; step < 20_000; step += 1) {
		if (step % 40 === 0) shared.note(typist);
		idle.advance(0.25);
	}
	const read = screens.map(({ screen, fedBytes }) => fedBytes - screen.behindBytes);
	for (const { screen } of screens) screen.dispose();
	const [first = 0, second = 0, third = 0] = read;
	expect(first).toBeGreaterThan(0);
	expect(first).toBeLessThan(output.length);
	// By what there is to read it would be four times as much as either.
	expect(third).toBeLessThan(1.1 * Math.min(first, second));
});
