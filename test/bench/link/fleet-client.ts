import { create } from '@bufbuild/protobuf';
import { GrpcTransport } from '../../../agent/control/grpc-transport.ts';
import type { ClientStream, LinkConnection } from '../../../agent/control/link-transport.ts';
import type { AgentBundle, AgentCredential } from '../../../agent/identity/identity.ts';
import { every, systemClock } from '../../../kit/clock.ts';
import { type ConnectRequest, ConnectRequestSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TRUST_DOMAIN } from '../../integration/link-world.ts';

/** The agents' process of fleet.ts: connections of the real transport, with heartbeats and nothing else of an agent. */
export interface ClientIdentity {
	readonly nodeId: string;
	readonly credential: AgentCredential;
	readonly bundle: AgentBundle;
}

export type ClientJob =
	| { readonly kind: 'connect' | 'reconnect'; readonly port: number; readonly identities: readonly ClientIdentity[] }
	| { readonly kind: 'facts'; readonly count: number; readonly links: number };

export interface ClientReply {
	readonly count: number;
	readonly elapsedMs: number;
}

const transport = new GrpcTransport(systemClock);
const connections: LinkConnection[] = [];
const streams: ClientStream<ConnectRequest>[] = [];
const acks: bigint[] = [];
const writable: (() => void)[] = [];
let onAck = () => {};

function heartbeat(stream: ClientStream<ConnectRequest>): void {
	stream.send(create(ConnectRequestSchema, { message: { case: 'heartbeat', value: {} } }));
}

function connect(port: number, { nodeId, credential, bundle }: ClientIdentity): Promise<void> {
	return new Promise((resolve, reject) => {
		const index = streams.length;
		const connection = transport.open({ gateway: `127.0.0.1:${port}`, trustDomain: TRUST_DOMAIN, credential, bundle });
		const stream = connection.connect({
			onFrame: ({ message }) => {
				if (message.case === 'welcome') resolve();
				else if (message.case === 'factAck') {
					acks[index] = message.value;
					onAck();
				}
			},
			onWritable: () => writable[index]?.(),
			onClosed: ({ message }) => {
				heart.cancel();
				reject(new Error(message));
			},
		});
		streams.push(stream);
		connections.push(connection);
		const value = { nodeId, generation: 1, instanceId: 'bench', factSeq: 10_000_000n };
		stream.send(create(ConnectRequestSchema, { message: { case: 'hello', value } }));
		// As an agent with a lease of 10 s.
		const heart = every(
			systemClock,
			3300,
			() => heartbeat(stream),
			() => {},
		);
	});
}

async function facts(count: number, links: number): Promise<void> {
	const perLink = count / links;
	for (let index = 0; index < links; index += 1) {
		let seq = 0;
		const more = () => {
			while (seq < perLink) {
				seq += 1;
				const fact = { case: 'agentAudit', value: { action: 'bench.fact' } } as const;
				const frame = create(ConnectRequestSchema, { message: { case: 'fact', value: { seq: BigInt(seq), fact } } });
				if (!streams[index]?.send(frame)) return;
			}
		};
		writable[index] = more;
		more();
	}
	await new Promise<void>((resolve) => {
		onAck = () => {
			let done = 0;
			for (let index = 0; index < links; index += 1) if (acks[index] === BigInt(perLink)) done += 1;
			if (done === links) resolve();
		};
	});
}

process.on('message', async (job: ClientJob) => {
	const startedMs = systemClock.monotonic();
	if (job.kind === 'facts') await facts(job.count, job.links);
	else {
		if (job.kind === 'reconnect') {
			streams.length = 0;
			for (const connection of connections.splice(0)) connection.close();
		}
		const waiting = [...job.identities];
		const worker = async () => {
			for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await connect(job.port, next);
		};
		await Promise.all(Array.from({ length: 64 }, worker));
	}
	const reply: ClientReply = {
		count: job.kind === 'facts' ? job.count : job.identities.length,
		elapsedMs: systemClock.monotonic() - startedMs,
	};
	process.send?.(reply);
});
