import { expect, test } from 'vitest';
import { askDaemon } from './daemon.ts';

test('a daemon that takes too long for an answer is typed, and says what to do', async () => {
	// No Node starts within a millisecond.
	const error = await askDaemon('agent', ['policy'], 1).catch((thrown: unknown) => thrown);
	expect(error).toMatchObject({ code: 'DEADLINE_EXCEEDED', reason: 'TIMED_OUT' });
	expect((error as Error).message).toMatch(
		/the agent did not answer policy within 0.001 s .*run the same command again/,
	);
});

test('a daemon that refuses says why', async () => {
	await expect(askDaemon('agent', ['frobnicate'])).rejects.toMatchObject({
		code: 'INTERNAL',
		message: expect.stringContaining('there is no "frobnicate"'),
	});
});
