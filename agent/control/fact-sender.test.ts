import { create } from '@bufbuild/protobuf';
import { expect, it } from 'vitest';
import { type ConnectRequest, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { FactSender } from './fact-sender.ts';

function audit() {
	return create(FactSchema, { fact: { case: 'agentAudit', value: { action: 'test', detail: '' } } });
}

function finished(outputBytes: number) {
	const output = [{ data: new Uint8Array(outputBytes) }];
	return create(FactSchema, { fact: { case: 'taskFinished', value: { taskId: 't', attempt: 1, output } } });
}

function started() {
	return create(FactSchema, { fact: { case: 'taskStarted', value: { taskId: 't', attempt: 1 } } });
}

/** Numbers of the facts of each message. */
function sender(journal: MemoryJournal, factAck = 0n) {
	const sent: bigint[][] = [];
	const acks: bigint[] = [];
	const send = ({ message }: ConnectRequest) => {
		if (message.case === 'fact') sent.push([message.value.seq]);
		if (message.case === 'facts') {
			sent.push(message.value.facts.map(({ seq }) => seq));
			acks.push(message.value.commandAck);
		}
		return true;
	};
	const facts = new FactSender(journal, { send, end: () => {}, cancel: () => {} }, factAck);
	const pump = (commandAck = 0n) => {
		let ack = commandAck;
		const take = () => {
			const taken = ack;
			ack = 0n;
			return taken;
		};
		facts.pump(
			() => true,
			() => {},
			take,
		);
		return ack;
	};
	return { facts, sent, acks, pump };
}

it('sends what waits together in one message, each fact once and in order', () => {
	const journal = new MemoryJournal();
	journal.appendFacts(Array.from({ length: 70 }, started));
	const { sent, pump } = sender(journal, 2n);
	pump();
	expect(sent.map((seqs) => seqs.length)).toEqual([64, 4]);
	expect(sent.flat()).toEqual(Array.from({ length: 68 }, (_, index) => BigInt(index + 3)));
	journal.appendFacts([audit()]);
	pump();
	expect(sent.at(-1)).toEqual([71n]);
});

it('keeps a message to the size that one fact may have', () => {
	const journal = new MemoryJournal();
	journal.appendFacts([finished(100_000), finished(100_000), finished(100_000), finished(600_000), started()]);
	const { sent, pump } = sender(journal);
	pump();
	expect(sent).toEqual([[1n, 2n], [3n], [4n], [5n]]);
});

it('has a bounded number of facts on the way, and goes on with an acknowledgement', () => {
	const journal = new MemoryJournal();
	journal.appendFacts(Array.from({ length: 3000 }, started));
	const { facts, sent, pump } = sender(journal);
	pump();
	const onTheWay = sent.flat().length;
	expect(onTheWay).toBeLessThan(1024 + 64);
	expect(facts.ack(BigInt(onTheWay + 1))).toBe(false);
	expect(facts.ack(1000n)).toBe(true);
	pump();
	expect(sent.flat().length).toBeGreaterThan(onTheWay);
});

it('takes an acknowledgement of commands along, once, and leaves it where no fact goes', () => {
	const journal = new MemoryJournal();
	const { sent, acks, pump } = sender(journal);
	expect(pump(3n)).toBe(3n);
	journal.appendFacts([started()]);
	expect(pump(4n)).toBe(0n);
	journal.appendFacts(Array.from({ length: 65 }, started));
	expect(pump(5n)).toBe(0n);
	expect(sent.map((seqs) => seqs.length)).toEqual([1, 64, 1]);
	expect(acks).toEqual([4n, 5n]);
});
