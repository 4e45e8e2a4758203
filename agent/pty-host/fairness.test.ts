import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import type { ChannelSize } from './pty-host.ts';
import { Screen } from './screen.ts';
import { Turns } from './turns.ts';

/**
 * Screens and somebody who types share one loop, as in the host: what the loop still does for the one while others' output
 * is read. All of it is in one process, so that a busy machine takes from both sides of the comparison alike.
 */
const turns = new Turns(systemClock);

/** A key, its echo, and all that the loop does for them; again and again. How often in this time. */
async function keys(forMs: number): Promise<number> {
	const typist = {};
	const untilMs = systemClock.monotonic() + forMs;
	let count = 0;
	while (systemClock.monotonic() < untilMs) {
		turns.note(typist);
		const doneMs = systemClock.monotonic() + 0.05;
		while (systemClock.monotonic() < doneMs);
		await new Promise<void>((resolve) => systemClock.defer(resolve));
		count += 1;
	}
	return count;
}

const HUGE = { columns: 1000, rows: 1000 };
const USUAL = { columns: 80, rows: 24 };
test.each<[string, string, ChannelSize]>([
	['scrolls', '\u001b[1000S', HUGE],
	['scrolls a region', '\u001b[2;999r\u001b[999H\u001b[999S', HUGE],
	['erases all', '\u001b[1;1H\u001b[41mx\u001b[2J', HUGE],
	['is coloured', '\u001b[38;2;1;2;3mx\u001b[48;5;7my', USUAL],
	['repeats a character', 'x\u001b[4096b', HUGE],
])(
	'who types beside three terminals whose output %s is as fast, half at least',
	async (_what, text, size) => {
		// Whoever has read all of it gets it again: there is always something to read, however fast the machine.
		const output = Buffer.from(text.repeat(Math.ceil((1 << 20) / text.length)));
		await keys(100);
		let best = 0;
		// A pause of the machine, or of the garbage collector, tells of nothing: one fair window does.
		for (let window = 0; window < 10 && best <= 0.5; window += 1) {
			const without = await keys(200);
			const costly = [0, 1, 2].map(() => {
				let again = 0;
				const screen: Screen = new Screen(size, turns, () => {
					again += 1;
					screen.feed(output);
				});
				screen.feed(output);
				return { screen, readBytes: () => (again + 1) * output.length - screen.behindBytes };
			});
			const beside = await keys(400);
			for (const { screen, readBytes } of costly) {
				expect(readBytes(), 'it is read').toBeGreaterThan(0);
				screen.dispose();
			}
			best = Math.max(best, beside / 2 / without);
		}
		expect(best).toBeGreaterThan(0.5);
	},
	60_000,
);

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
					{ interval: 20, timeout: 20_000 },
				)
				.toBe(isCostly);
		};
		await isSlow('plain text ', false);
		await isSlow('\u001b[38;2;1;2;3mx\u001b[48;5;7my\u001b[1000Sx\u001b[4096b', true);
		screen.dispose();
	},
	60_000,
);

test('what one terminal has to be read is not read faster because it has more', async () => {
	// More than anybody reads in that time.
	const output = Buffer.from('\u001b[38;2;1;2;3mx'.repeat(600_000));
	const screens = [1, 1, 4].map((times) => {
		const screen = new Screen(USUAL, turns, () => {});
		for (let each = 0; each < times; each += 1) screen.feed(output);
		return { screen, fedBytes: times * output.length };
	});
	await keys(1_000);
	const read = screens.map(({ screen, fedBytes }) => fedBytes - screen.behindBytes);
	for (const { screen } of screens) screen.dispose();
	const [first = 0, second = 0, third = 0] = read;
	expect(first).toBeGreaterThan(0);
	// By what there is to read it would be four times as much as either.
	expect(third).toBeLessThan(1.5 * (first + second));
}, 60_000);
