import { create } from '@bufbuild/protobuf';
import { GrpcTransport } from '../../../agent/control/grpc-transport.ts';
import { systemClock } from '../../../kit/clock.ts';
import { UploadOutputRequestSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { OutputStream } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TRUST_DOMAIN } from '../../integration/link-world.ts';
import type { ClientIdentity } from './fleet-client.ts';

/** The agent's process of throughput.ts. */
export interface ThroughputJob {
	readonly port: number;
	readonly bytes: number;
	/** Whether the contract's bound of unacknowledged bytes is kept. */
	readonly isBounded: boolean;
	readonly identity: ClientIdentity;
}

const CHUNK_BYTES = 64 * 1024;
const UNACKED_MAX = 1024 * 1024;

process.on('message', async ({ port, bytes, isBounded, identity: { credential, bundle } }: ThroughputJob) => {
	const gateway = `127.0.0.1:${port}`;
	const connection = new GrpcTransport(systemClock).open({ gateway, trustDomain: TRUST_DOMAIN, credential, bundle });
	const data = new Uint8Array(CHUNK_BYTES);
	let sent = 0;
	let stored = 0;
	let isWritable = true;
	let startedMs = 0;
	await new Promise<void>((resolve, reject) => {
		const send = (message: Parameters<typeof create<typeof UploadOutputRequestSchema>>[1]) => {
			isWritable = stream.send(create(UploadOutputRequestSchema, message));
		};
		const pump = () => {
			while (isWritable && sent < bytes && (!isBounded || sent - stored < UNACKED_MAX)) {
				const value = { offset: BigInt(sent), stream: OutputStream.STDOUT, data, droppedBytes: 0n };
				sent += CHUNK_BYTES;
				send({ message: { case: 'chunk', value } });
			}
		};
		const stream = connection.uploadOutput({
			onFrame: ({ storedOffset }) => {
				if (startedMs === 0) startedMs = systemClock.monotonic();
				stored = Number(storedOffset);
				if (stored >= bytes) resolve();
				pump();
			},
			onWritable: () => {
				isWritable = true;
				pump();
			},
			onClosed: ({ message }) => reject(new Error(message)),
		});
		const value = { taskId: '00000000-0000-7000-8000-000000000000', attempt: 1, fencingToken: 1n };
		send({ message: { case: 'hello', value } });
	});
	process.send?.(systemClock.monotonic() - startedMs);
	connection.close();
});
