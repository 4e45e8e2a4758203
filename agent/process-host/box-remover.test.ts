import { expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { BoxRemover } from './box-remover.ts';

test('what can not be given back yet is given back once it can be, and no oftener', () => {
	const clock = new VirtualClock(0);
	let isOccupied = true;
	let tries = 0;
	const remover = new BoxRemover(clock);
	const tryOnce = () => {
		tries += 1;
		return !isOccupied;
	};
	expect(remover.remove(tryOnce)).toBe(false);
	clock.advance(10_000);
	expect(tries).toBeGreaterThan(5);
	isOccupied = false;
	clock.advance(60_000);
	const last = tries;
	clock.advance(3_600_000);
	expect(tries).toBe(last);
	expect(remover.remove(tryOnce)).toBe(true);
});

test('it is not tried for ever, nor after the end', () => {
	const clock = new VirtualClock(0);
	const tries = [0, 0];
	const [stuck, closed] = [new BoxRemover(clock), new BoxRemover(clock)];
	stuck.remove(() => {
		tries[0] = (tries[0] ?? 0) + 1;
		return false;
	});
	closed.remove(() => {
		tries[1] = (tries[1] ?? 0) + 1;
		return false;
	});
	closed.close();
	clock.advance(86_400_000);
	expect(tries).toEqual([56, 1]);
});
