import { expect, test } from 'vitest';
import type { CastEvent } from '../../kit/asciicast.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { Player, pressed } from './player.ts';

async function* events(...list: readonly (readonly [number, string])[]): AsyncGenerator<CastEvent> {
	for (const [atMs, text] of list) yield { atMs, code: 'o', text };
}

function playing(options: { speed?: number; idleLimitMs?: number } = {}) {
	const clock = new VirtualClock();
	const shown: [number, string][] = [];
	const player = new Player({
		clock,
		speed: 1,
		idleLimitMs: 1e9,
		show: async (text) => void shown.push([clock.monotonic(), text]),
		...options,
	});
	/** Lets everything happen that is due within so many ms. */
	const pass = async (ms: number) => {
		const settle = async () => {
			for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
		};
		await settle();
		for (let step = 0; step < ms; step += 10) {
			clock.advance(10);
			await settle();
		}
	};
	return { player, shown, pass };
}

test('output comes when it came, twice as fast when asked, and long pauses are cut', async () => {
	const cast = [
		[100, 'a'],
		[300, 'b'],
		[60_000, 'c'],
	] as const;
	const plain = playing({ idleLimitMs: 500 });
	const ended = plain.player.play(events(...cast));
	await plain.pass(1000);
	await ended;
	expect(plain.shown).toEqual([
		[100, 'a'],
		[300, 'b'],
		[800, 'c'],
	]);
	const fast = playing({ speed: 2, idleLimitMs: 500 });
	const over = fast.player.play(events(...cast));
	await fast.pass(500);
	await over;
	expect(fast.shown).toEqual([
		[50, 'a'],
		[150, 'b'],
		[400, 'c'],
	]);
});

test('without pauses nothing is waited for', async () => {
	const { player, shown } = playing({ speed: Number.POSITIVE_INFINITY });
	await player.play(events([100, 'a'], [1e9, 'b']));
	expect(shown.map(([, text]) => text)).toEqual(['a', 'b']);
});

test('keys pause, step, change the speed in the middle of a pause, and quit', async () => {
	const { player, shown, pass } = playing();
	const ended = player.play(events([100, 'a'], [200, 'b'], [300, 'c'], [2300, 'd'], [9000, 'e']));
	await pass(100);
	pressed(player, ' ');
	await pass(1000);
	expect([player.isPaused, shown.map(([, text]) => text).join('')]).toEqual([true, 'a']);
	pressed(player, '.');
	await pass(10);
	expect(shown.map(([, text]) => text).join('')).toBe('ab');
	pressed(player, ' ');
	await pass(1100);
	expect(shown.map(([, text]) => text).join('')).toBe('abc');
	pressed(player, '+');
	await pass(500);
	expect([player.speed, shown.map(([, text]) => text).join('')]).toEqual([2, 'abcd']);
	pressed(player, 'q');
	await ended;
	expect(shown).toHaveLength(4);
});

test('what is missing of it is said where it is missing; other markers are not shown', async () => {
	const { player, shown } = playing();
	const cast = (async function* (): AsyncGenerator<CastEvent> {
		yield { atMs: 0, code: 'm', text: 'ada attached (control)' };
		yield { atMs: 0, code: 'm', text: 'gap: output bytes 3 to 10 never came' };
	})();
	await player.play(cast);
	expect(shown).toEqual([[0, '\r\n[gap: output bytes 3 to 10 never came]\r\n']]);
});
