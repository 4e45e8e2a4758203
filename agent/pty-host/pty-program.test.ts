import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { startOnPty } from './pty-program.ts';

test('a resize in the very turn of its end changes nothing, and nobody else is cut for it', async () => {
	const over = Promise.withResolvers<void>();
	const launch = { file: '/bin/sleep', args: ['60'], env: {} };
	const program = startOnPty(launch, { columns: 80, rows: 24 }, undefined, {
		onData: () => {},
		onEnd: () => {},
		onExit: () => over.resolve(),
	});
	program.resize({ columns: 100, rows: 30 });
	program.destroy();
	expect(() => program.resize({ columns: 90, rows: 20 })).not.toThrow();
	await over.promise;
});

test('a flood comes whole and in its order, however much is read at once', async () => {
	const over = Promise.withResolvers<void>();
	let text = '';
	const launch = { file: '/usr/bin/seq', args: ['200000'], env: {} };
	startOnPty(launch, { columns: 80, rows: 24 }, undefined, {
		onData: (_stream, bytes) => {
			text += bytes.toString('latin1');
		},
		onEnd: () => over.resolve(),
		onExit: () => {},
	});
	await over.promise;
	const expected = Array.from({ length: 200_000 }, (_, index) => `${index + 1}\r\n`).join('');
	expect(text === expected).toBe(true);
});

test('much that is typed into a program that reads nothing holds up nobody, and comes whole once it reads', async () => {
	const lines = Array.from({ length: 4000 }, (_, index) => `line ${index}\n`).join('');
	const ended = Promise.withResolvers<void>();
	let text = '';
	const script = `stty raw -echo; kill -STOP $$; head -c ${lines.length} | sha256sum`;
	const launch = { file: '/bin/bash', args: ['-c', script], env: { PATH: process.env.PATH ?? '' } };
	const program = startOnPty(launch, { columns: 80, rows: 24 }, undefined, {
		onData: (_stream, bytes) => {
			text += bytes.toString('latin1');
		},
		onEnd: () => ended.resolve(),
		onExit: () => {},
	});
	const stat = () => readFileSync(`/proc/${program.pid}/stat`, 'latin1').split(') ')[1]?.[0];
	await expect.poll(stat, { timeout: 20_000 }).toBe('T');
	let taken = 0;
	program.write(Buffer.from(lines), () => {
		taken += 1;
	});
	// The loop goes on: a timer fires, again and again.
	for (let turn = 0; turn < 20; turn += 1) await new Promise<void>((resolve) => systemClock.setTimer(resolve, 5));
	expect(taken).toBe(0);
	process.kill(program.pid, 'SIGCONT');
	await ended.promise;
	expect(taken).toBe(1);
	expect(text).toContain(createHash('sha256').update(lines).digest('hex'));
});
