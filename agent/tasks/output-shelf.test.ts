import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../kit/clock.ts';
import type { Attempt } from './attempt.ts';
import { OutputShelf } from './output-shelf.ts';
import type { OutputRecord, ProcessHost } from './process-host.ts';

/** What is read here is all that the control plane will ever have: the spool goes once it says that it has it. */
const permit = { decision: { kind: 'permit', outputBytesMax: 1024 } } as unknown as Attempt;

function shelf(attempt: Attempt | undefined, agent = new AbortController().signal) {
	return new OutputShelf(undefined as never, undefined as never, () => attempt, agent);
}

function hostOf(records: readonly OutputRecord[]): ProcessHost {
	async function* attach(): AsyncGenerator<OutputRecord, void, void> {
		yield* records;
		if (records.at(-1)?.kind !== 'END') await new Promise(() => {});
	}
	return { attach } as unknown as ProcessHost;
}

async function read(from: OutputShelf, signal = new AbortController().signal): Promise<string> {
	let text = '';
	for await (const { data } of from.read('task', 1, 0n, signal)) text += Buffer.from(data).toString();
	return text;
}

const DATA: OutputRecord = { kind: 'DATA', stream: 'stdout', offset: 0, bytes: Buffer.from('hello') };
const END: OutputRecord = { kind: 'END', offset: 5 };

test.each([
	['runs', permit],
	['has ended', undefined],
])('the output of an attempt that %s is read to its end', async (_name, attempt) => {
	const outputs = shelf(attempt);
	outputs.setHost(hostOf([DATA, END]));
	expect(await read(outputs)).toBe('hello');
});

test('an upload that meets no process host fails, and does not end as if that were all', async () => {
	const outputs = shelf(undefined);
	await expect(read(outputs)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
	outputs.setHost(hostOf([DATA, END]));
	outputs.setHost(undefined);
	await expect(read(outputs)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test.each([
	['runs', permit],
	['has ended', undefined],
])('the output of an attempt that %s fails when the agent stops before its end', async (_name, attempt) => {
	const agent = new AbortController();
	const outputs = shelf(attempt, agent.signal);
	outputs.setHost(hostOf([DATA]));
	const reading = read(outputs);
	await yieldTurn(systemClock);
	agent.abort();
	await expect(reading).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});
