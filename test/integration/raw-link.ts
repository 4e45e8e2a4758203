import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ClientStream, LinkConnection, LinkTransport, StreamEnd } from '../../agent/control/link-transport.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import {
	type CloseCode,
	type ConnectRequest,
	ConnectRequestSchema,
	type ConnectResponse,
	HelloSchema,
	type Welcome,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { eventually } from '../eventually.ts';
import { targetOf } from './link-world.ts';

/** A client of the link that says exactly what a test tells it to, also what no agent of ours would. */
type Message = NonNullable<MessageInitShape<typeof ConnectRequestSchema>['message']>;
type HelloFields = MessageInitShape<typeof HelloSchema>;

export class RawLink {
	readonly frames: ConnectResponse[] = [];
	readonly connection: LinkConnection;
	readonly #stream: ClientStream<ConnectRequest>;
	readonly #identity: StoredIdentity;
	end: StreamEnd | undefined;
	endCount = 0;
	/** How often the stream took more after it had not. */
	writableCount = 0;

	/** `over`: a connection that is there already. */
	constructor(transport: LinkTransport, identity: StoredIdentity, gateway: string, over?: LinkConnection) {
		this.#identity = identity;
		this.connection = over ?? transport.open(targetOf(identity, gateway));
		this.#stream = this.connection.connect({
			onFrame: (frame) => this.frames.push(frame),
			onWritable: () => {
				this.writableCount += 1;
			},
			onClosed: (end) => {
				this.end = end;
				this.endCount += 1;
			},
		});
	}

	send(message: Message): boolean {
		return this.#stream.send(create(ConnectRequestSchema, { message }));
	}

	hello(overrides: HelloFields = {}): this {
		const { nodeId, generation } = this.#identity;
		const value = create(HelloSchema, { nodeId, generation, instanceId: 'raw', ...overrides } as HelloFields);
		this.send({ case: 'hello', value });
		return this;
	}

	fact(seq: bigint, detail = ''): boolean {
		const fact = { case: 'agentAudit', value: { action: 'test.happened', detail } } as const;
		return this.send({ case: 'fact', value: { seq, fact } });
	}

	facts(...seqs: readonly bigint[]): boolean {
		const fact = { case: 'agentAudit', value: { action: 'test.happened', detail: '' } } as const;
		return this.send({ case: 'facts', value: { facts: seqs.map((seq) => ({ seq, fact })) } });
	}

	async welcomed(): Promise<Welcome> {
		return await eventually('Welcome', () => {
			// First: it may have come, and the stream have ended since.
			const [first] = this.frames;
			if (first?.message.case === 'welcome') return first.message.value;
			if (this.end !== undefined) throw new Error(`ended with ${this.end.code}: ${this.end.message}`);
			return undefined;
		});
	}

	/** The typed close and the gRPC status after it. */
	async closed(): Promise<{
		readonly code: CloseCode | undefined;
		readonly retryAfter: boolean;
		readonly end: StreamEnd;
	}> {
		const end = await eventually('the stream is over', () => this.end);
		const close = this.frames.map(({ message }) => message).find((message) => message.case === 'close');
		const code = close?.case === 'close' ? close.value.code : undefined;
		const retryAfter = close?.case === 'close' && close.value.retryAfter !== undefined;
		return { code, retryAfter, end };
	}

	factAck(): bigint {
		let ack = 0n;
		for (const { message } of this.frames) if (message.case === 'factAck') ack = message.value;
		return ack;
	}

	commands(): bigint[] {
		return this.frames.flatMap(({ message }) => (message.case === 'command' ? [message.value.seq] : []));
	}

	close(): void {
		this.connection.close();
	}
}
