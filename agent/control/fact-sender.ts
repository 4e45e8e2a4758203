import { create } from '@bufbuild/protobuf';
import { type ConnectRequest, ConnectRequestSchema, type Fact } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { Journal } from '../journal/journal.ts';
import type { ClientStream } from './link-transport.ts';

/**
 * Sends what the journal holds unacknowledged, in order, from where the server is. At most `FACTS_IN_FLIGHT_MAX` are
 * on the way: the rest waits in the journal, not in this process's memory.
 */
const FACTS_IN_FLIGHT_MAX = 1024;
const FACTS_READ_MAX = 128;

export class FactSender {
	readonly #journal: Journal;
	readonly #stream: ClientStream<ConnectRequest>;
	/** Highest fact that was sent on this stream. */
	#sentSeq: bigint;
	#ackedSeq: bigint;
	#waiting: Fact[] = [];

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

	/** Sends while the stream takes it; called when facts were appended, acknowledged, or the stream became writable. */
	pump(isWritable: () => boolean, onSent: (takesMore: boolean) => void): void {
		while (isWritable() && this.#sentSeq - this.#ackedSeq < FACTS_IN_FLIGHT_MAX) {
			if (this.#waiting.length === 0) this.#waiting = [...this.#journal.listFacts(this.#sentSeq, FACTS_READ_MAX)];
			const fact = this.#waiting.shift();
			if (fact === undefined) return;
			this.#sentSeq = fact.seq;
			onSent(this.#stream.send(create(ConnectRequestSchema, { message: { case: 'fact', value: fact } })));
		}
	}
}
