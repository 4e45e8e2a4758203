import { expect, test } from 'vitest';
import { whenSilent } from './silence.ts';
import { VirtualClock } from './virtual-clock.ts';

const LIMITS = { keepaliveMs: 10_000, keepaliveTimeoutMs: 5000 };

function watched(limits: Parameters<typeof whenSilent>[2] = LIMITS) {
	const clock = new VirtualClock();
	const asked: string[] = [];
	const session = {
		destroyed: false,
		closed: false,
		socket: { bytesRead: 0 },
		state: { outboundQueueSize: 0 },
		ping: () => void asked.push('ping'),
		settings: () => void asked.push('settings'),
		destroy: () => void asked.push('destroy'),
	};
	const ends: number[] = [];
	const timer = whenSilent(clock, session, limits, () => ends.push(clock.monotonic()));
	const startedMs = clock.monotonic();
	return { clock, session, asked, timer, endedAfterMs: () => ends.map((ms) => ms - startedMs) };
}

test('an end that is heard no more is found after both waits, whatever was asked', () => {
	const { clock, session, asked, endedAfterMs, timer } = watched();
	session.socket.bytesRead = 17;
	clock.advance(19_999);
	expect(endedAfterMs()).toEqual([]);
	clock.advance(1);
	expect(endedAfterMs()).toEqual([20_000]);
	expect(asked).toEqual(['ping', 'ping']);
	timer.cancel();
	clock.advance(60_000);
	expect(endedAfterMs()).toEqual([20_000]);
	expect(asked).toHaveLength(2);
});

test('anything that is heard counts, where the answer waits behind what the other end sends', () => {
	const { clock, session, endedAfterMs } = watched();
	for (let seconds = 0; seconds < 600; seconds += 14) {
		session.socket.bytesRead += 1;
		clock.advance(14_000);
	}
	expect(endedAfterMs()).toEqual([]);
});

test('the other end is asked also while it is heard: it may hear nothing else', () => {
	const { clock, session, asked } = watched();
	for (let seconds = 0; seconds < 60; seconds += 1) {
		session.socket.bytesRead += 1000;
		clock.advance(1000);
	}
	expect(asked).toHaveLength(6);
});

test('while what is written waits, nothing is read, and silence means little: for longer, not for ever', () => {
	const { clock, session, endedAfterMs } = watched({ ...LIMITS, blockedMs: 60_000 });
	session.state.outboundQueueSize = 1;
	clock.advance(70_000);
	expect(endedAfterMs()).toEqual([]);
	clock.advance(5000);
	expect(endedAfterMs()).toEqual([75_000]);

	const idle = watched({ ...LIMITS, blockedMs: 60_000 });
	idle.clock.advance(15_000);
	expect(idle.endedAfterMs()).toEqual([15_000]);
});

test('one that takes no new streams is asked by settings, which it answers', () => {
	const { clock, session, asked } = watched();
	session.closed = true;
	clock.advance(10_000);
	expect(asked).toEqual(['settings']);
});

test('an asking that fails ends nothing by itself', () => {
	const { clock, session, endedAfterMs } = watched();
	session.ping = () => {
		session.socket.bytesRead += 1;
		throw new Error('ten wait already');
	};
	clock.advance(60_000);
	expect(endedAfterMs()).toEqual([]);
});
