import { create } from '@bufbuild/protobuf';
import {
	type ConnectRequest,
	ConnectRequestSchema,
	type Fact,
	FactBatchSchema,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { Journal } from '../journal/journal.ts';
import type { ClientStream } from './link-transport.ts';

/**
 * Sends what the journal holds unacknowledged, in order, from where the server is. At most `FACTS_IN_FLIGHT_MAX` are
 * on the way: the rest waits in the journal, not in this process's memory.
 */
const FACTS_IN_FLIGHT_MAX = 1024;
const FACTS_READ_MAX = 128;
/** link.proto: FactBatch.facts. */
const FACTS_TOGETHER_MAX = 64;
/** Of one message, so that a batch of outputs is no longer than a fact may be by itself. */
const BATCH_BYTES_MAX = 256 * 1024;

export class FactSender {
	readonly #journal: Journal;
	readonly #stream: ClientStream<ConnectRequest>;
	/** Highest fact that was sent on this stream. */
	#sentSeq: bigint;
	#ackedSeq: bigint;
	#waiting: Fact[] = [];
	#next = 0;

	/** `factAck`: what the server has, from Welcome. */
	constructor(journal: Journal, stream: ClientStream<ConnectRequest>, factAck: bigint) {
		this.#journal = journal;
		this.#stream = stream;
		const lastSeq = journal.lastFactSeq();
		// A server that has more than was ever written here mustn't make us forget what comes next.
		const ackedSeq = factAck < lastSeq ? factAck : lastSeq;
		this.#sentSeq = ackedSeq;
		this.#ackedSeq = ackedSeq;
		journal.ackFacts(ackedSeq);
	}

	/** False when the server acknowledges what was never sent. */
	ack(seq: bigint): boolean {
		if (seq > this.#sentSeq) return false;
		if (seq > this.#ackedSeq) {
			this.#ackedSeq = seq;
			this.#journal.ackFacts(seq);
		}
		return true;
	}

	/**
	 * Sends while the stream takes it; called when facts were appended, acknowledged, or the stream became writable. The
	 * first message takes an acknowledgement of commands along, which is 0 when there is none.
	 */
	pump(isWritable: () => boolean, onSent: (takesMore: boolean) => void, takeCommandAck: () => bigint): void {
		while (isWritable() && this.#sentSeq - this.#ackedSeq < FACTS_IN_FLIGHT_MAX) {
			const facts = this.#take();
			const [fact] = facts;
			if (fact === undefined) return;
			this.#sentSeq = facts.at(-1)?.seq ?? fact.seq;
			const commandAck = takeCommandAck();
			const message =
				facts.length === 1 && commandAck === 0n
					? { case: 'fact' as const, value: fact }
					: { case: 'facts' as const, value: create(FactBatchSchema, { facts, commandAck }) };
			onSent(this.#stream.send(create(ConnectRequestSchema, { message })));
		}
	}

	/** What goes into the next message. */
	#take(): Fact[] {
		if (this.#next === this.#waiting.length) {
			this.#waiting = [...this.#journal.listFacts(this.#sentSeq, FACTS_READ_MAX)];
			this.#next = 0;
		}
		const first = this.#next;
		let bytes = 0;
		while (this.#next < this.#waiting.length && this.#next - first < FACTS_TOGETHER_MAX) {
			bytes += bytesOf(this.#waiting[this.#next]);
			if (bytes > BATCH_BYTES_MAX && this.#next > first) break;
			this.#next += 1;
		}
		return this.#waiting.slice(first, this.#next);
	}
}

/** Near enough: receipts and all but output are small; what describes a host isn't, and goes by itself. */
function bytesOf(fact: Fact | undefined): number {
	switch (fact?.fact.case) {
		case 'taskFinished':
			return fact.fact.value.output.reduce((sum, { data }) => sum + data.length, 2048);
		case 'taskAccepted':
		case 'taskStarted':
		case 'taskRefused':
			return 512;
		case 'agentAudit':
			return 8 * 1024;
		default:
			return BATCH_BYTES_MAX + 1;
	}
}
