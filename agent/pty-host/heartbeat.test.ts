import { expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { watchHeartbeat } from './heartbeat.ts';

/** A host of which each ping ends as told, `undefined` never. */
async function watched(...answers: readonly (Promise<void> | undefined)[]) {
	const clock = new VirtualClock();
	const killed: number[] = [];
	let pings = 0;
	const ping = () => {
		pings += 1;
		return answers[pings - 1] ?? new Promise<void>(() => {});
	};
	const lost = new AbortController();
	let why: string | undefined;
	const done = watchHeartbeat(clock, (pid) => killed.push(pid), { pid: 4711, ping }, lost.signal);
	void done.then((text) => {
		why = text;
	});
	const settle = async (ms: number) => {
		for (let passedMs = 0; passedMs < ms; passedMs += 1000) {
			clock.advance(1000);
			for (let turn = 0; turn < 10; turn += 1) await null;
		}
	};
	return { settle, lost, killed, state: () => ({ why, pings, killed }) };
}

test('a host that answers is asked again', async () => {
	const { settle, state } = await watched(Promise.resolve(), Promise.resolve(), Promise.resolve());
	await settle(15_000);
	expect(state()).toEqual({ why: undefined, pings: 3, killed: [] });
});

test('a host that does not answer is killed after its time, not before', async () => {
	const { settle, state } = await watched(Promise.resolve(), undefined);
	await settle(24_000);
	expect(state()).toEqual({ why: undefined, pings: 2, killed: [] });
	await settle(1000);
	expect(state()).toEqual({ why: 'it did not answer', pings: 2, killed: [4711] });
});

test('a host that is gone is replaced, and nobody is killed for it', async () => {
	const { settle, state } = await watched(Promise.reject(new Error('the connection is over')));
	await settle(30_000);
	expect(state()).toMatchObject({ why: expect.stringContaining('could not be asked'), killed: [] });
});

test('a connection that is over is not watched any more', async () => {
	const { settle, lost, state } = await watched(undefined);
	await settle(6000);
	lost.abort();
	await settle(60_000);
	expect(state()).toMatchObject({ pings: 1, killed: [] });
});
