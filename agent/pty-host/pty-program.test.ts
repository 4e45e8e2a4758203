import { expect, test } from 'vitest';
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
