import { expect, test } from 'vitest';
import { type CommandInit, CommandStream } from './command-stream.ts';

const offer: CommandInit = { command: { case: 'taskOffer', value: {} } };
const cancel: CommandInit = { command: { case: 'taskCancel', value: {} } };

function drain(stream: CommandStream): bigint[] {
	const seqs: bigint[] = [];
	for (let command = stream.take(); command !== undefined; command = stream.take()) seqs.push(command.seq);
	return seqs;
}

test('numbers from 1 in order of pushing, and gives each once', () => {
	const stream = new CommandStream('s', 10, 10);
	for (const key of ['a', 'b', 'c']) expect(stream.push(key, offer)).toBe(true);
	expect(drain(stream)).toEqual([1n, 2n, 3n]);
	expect(stream.push('d', cancel)).toBe(true);
	expect(drain(stream)).toEqual([4n]);
});

test('a command that is on its way is not added again; once acknowledged it may be', () => {
	const stream = new CommandStream('s', 10, 10);
	stream.push('a', offer);
	expect(stream.push('a', offer)).toBe(true);
	expect(drain(stream)).toEqual([1n]);
	expect(stream.ack(1n)).toBe(true);
	stream.push('a', offer);
	expect(drain(stream)).toEqual([2n]);
});

test('offers and commands have bounds of their own, and acknowledgements make room', () => {
	const stream = new CommandStream('s', 2, 4);
	expect([stream.push('a', offer), stream.push('b', offer), stream.push('c', offer)]).toEqual([true, true, false]);
	expect([stream.push('x', cancel), stream.push('y', cancel), stream.push('z', cancel)]).toEqual([true, true, false]);
	drain(stream);
	expect(stream.ack(2n)).toBe(true);
	expect(stream.unackedCount).toBe(2);
	expect([stream.push('c', offer), stream.push('d', offer), stream.push('e', offer)]).toEqual([true, true, false]);
});

test('what was never sent cannot be acknowledged', () => {
	const stream = new CommandStream('s', 10, 10);
	stream.push('a', offer);
	expect(stream.ack(1n)).toBe(false);
	drain(stream);
	expect(stream.ack(2n)).toBe(false);
	expect(stream.ack(1n)).toBe(true);
	expect(stream.ack(0n)).toBe(true);
	expect(stream.unackedCount).toBe(0);
});
