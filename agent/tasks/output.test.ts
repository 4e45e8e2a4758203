import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../kit/clock.ts';
import { collectInline, readPieces } from './output.ts';
import type { OutputRecord, ProcessHost } from './process-host.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** A task that writes what it is told to, and is silent else. */
function chatty(writes: number) {
	const kept: WeakRef<Uint8Array>[] = [];
	async function* attach(): AsyncGenerator<OutputRecord, void, void> {
		for (let offset = 0; offset < writes * 1024; offset += 1024) {
			const bytes = Buffer.from(new Uint8Array(1024));
			kept.push(new WeakRef(bytes));
			yield { kind: 'DATA', stream: 'stdout', offset, bytes };
		}
		await new Promise(() => {});
	}
	return { host: { attach } as unknown as ProcessHost, kept };
}

test('what was read of a task that runs on is kept nowhere', async () => {
	const { host, kept } = chatty(100);
	const abort = new AbortController();
	const pieces = readPieces(host, { taskId: 'task', attempt: 1 }, 0n, abort.signal);
	for (let read = 0; read < 100; read += 1) await pieces.next();
	const waiting = pieces.next();
	await yieldTurn(systemClock);
	collectGarbage();
	// The reader may hold the newest.
	expect(kept.slice(0, -1).filter((bytes) => bytes.deref() !== undefined)).toEqual([]);
	// It is live still, and left at once.
	abort.abort();
	expect(await waiting, 'and this was not all').toEqual({ done: true, value: false });
});

test('whoever has left already reads nothing', async () => {
	const { host, kept } = chatty(1);
	const pieces = readPieces(host, { taskId: 'task', attempt: 1 }, 0n, AbortSignal.abort());
	expect(await pieces.next()).toEqual({ done: true, value: false });
	expect(kept).toEqual([]);
});

/** A task that has written two pieces, and has ended if it is said so. */
function written(hasEnded: boolean): ProcessHost {
	async function* attach(): AsyncGenerator<OutputRecord, void, void> {
		for (const offset of [0, 2]) yield { kind: 'DATA', stream: 'stdout', offset, bytes: Buffer.from('ab') };
		if (hasEnded) yield { kind: 'END', offset: 4 };
		else await new Promise(() => {});
	}
	return { attach } as unknown as ProcessHost;
}

const key = { taskId: 'task', attempt: 1 };

test('output that was read to its end goes with the receipt', async () => {
	const chunks = await collectInline(written(true), key, new AbortController().signal);
	expect(chunks?.map(({ data }) => Buffer.from(data).toString())).toEqual(['abab']);
});

test('output that an agent which stops did not read to its end is not taken for all of it', async () => {
	const abort = new AbortController();
	const collected = collectInline(written(false), key, abort.signal);
	await yieldTurn(systemClock);
	abort.abort();
	expect(await collected).toBeUndefined();
});
