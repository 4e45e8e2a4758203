import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Command, CommandSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

export type CommandInit = MessageInitShape<typeof CommandSchema>;

/**
 * The commands of one session: numbered from 1, sent in order, kept until the agent says that they are in its journal.
 * It ends with its session, whose HTTP/2 stream neither loses nor reorders. What was unacknowledged then is in the
 * store and is offered again, level-triggered, when the next session opens. Bounded: a full stream takes nothing.
 */
export class CommandStream {
	/** Goes into Welcome: an agent that sees another id counts from 0. */
	readonly id: string;
	readonly #offersMax: number;
	readonly #commandsMax: number;
	#unsent: Command[] = [];
	#head = 0;
	/** In order of seq: what was sent or waits, and isn't acknowledged. */
	readonly #unacked = new Map<bigint, { readonly key: string; readonly isOffer: boolean }>();
	readonly #keys = new Set<string>();
	#offers = 0;
	#nextSeq = 1n;
	#sentSeq = 0n;

	constructor(id: string, offersMax: number, commandsMax: number) {
		this.id = id;
		this.#offersMax = offersMax;
		this.#commandsMax = commandsMax;
	}

	/**
	 * Numbers a command and queues it. `key` names what it asks for: a command that is already on its way isn't added a
	 * second time (a resend is a hint, and hints repeat). False when too much is unacknowledged.
	 */
	push(key: string, command: CommandInit): boolean {
		if (this.#keys.has(key)) return true;
		const isOffer = command.command?.case === 'taskOffer';
		if (this.#unacked.size >= this.#commandsMax || (isOffer && this.#offers >= this.#offersMax)) return false;
		const seq = this.#nextSeq;
		this.#nextSeq += 1n;
		this.#unsent.push(create(CommandSchema, { ...command, seq }));
		this.#unacked.set(seq, { key, isOffer });
		this.#keys.add(key);
		if (isOffer) this.#offers += 1;
		return true;
	}

	/** The next command to write to the stream. */
	take(): Command | undefined {
		const command = this.#unsent[this.#head];
		if (command === undefined) return undefined;
		this.#head += 1;
		if (this.#head === this.#unsent.length) {
			this.#unsent = [];
			this.#head = 0;
		}
		this.#sentSeq = command.seq;
		return command;
	}

	/** Forgets commands up to and including `seq`; false when that one was never sent. */
	ack(seq: bigint): boolean {
		if (seq > this.#sentSeq) return false;
		for (const [unackedSeq, { key, isOffer }] of this.#unacked) {
			if (unackedSeq > seq) break;
			this.#unacked.delete(unackedSeq);
			this.#keys.delete(key);
			if (isOffer) this.#offers -= 1;
		}
		return true;
	}

	get unackedCount(): number {
		return this.#unacked.size;
	}
}
