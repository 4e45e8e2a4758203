import { expect, it } from 'vitest';
import { createLogger } from './log.ts';
import { SparingLog } from './sparing-log.ts';
import { VirtualClock } from './virtual-clock.ts';

function sparing() {
	const clock = new VirtualClock();
	const lines: Record<string, unknown>[] = [];
	const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
	return { clock, lines, log: new SparingLog(createLogger({ name: 'test', destination, clock }), clock) };
}

it('writes a few lines of one message at once, then a few a minute, and says how many it left out', () => {
	const { clock, lines, log } = sparing();
	for (let call = 0; call < 1000; call += 1) log.warn('refused', { call });
	expect(lines).toHaveLength(20);
	expect(lines[0]).toMatchObject({ level: 'warn', message: 'refused', call: 0 });
	expect(lines.some((line) => 'leftOut' in line)).toBe(false);
	clock.advance(60_000);
	for (let call = 1000; call < 2000; call += 1) log.warn('refused', { call });
	expect(lines).toHaveLength(32);
	expect(lines[20]).toMatchObject({ call: 1000, leftOut: 980 });
	expect(lines[21], 'they are said once').not.toHaveProperty('leftOut');
});

it('counts each message for itself, so that a flood of one hides no other', () => {
	const { lines, log } = sparing();
	for (let call = 0; call < 1000; call += 1) log.warn('refused', { call });
	log.warn('cut', { peer: 'a' });
	expect(lines.at(-1)).toMatchObject({ message: 'cut', peer: 'a' });
});

it('takes no message that has something of the caller in it', () => {
	const { log } = sparing();
	const flood = () => {
		for (let call = 0; call < 1000; call += 1) log.warn(`refused ${call}`, {});
	};
	expect(flood).toThrow('a message is a text of ours');
});
