import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { GatewayCredentials } from '../../control-plane/gateway/credentials.ts';
import { GATEWAY_WIRE_LIMITS_DEFAULT } from '../../control-plane/gateway/server.ts';
import { raiseConnectionWindows } from '../../control-plane/gateway/windows.ts';
import { keepAlive } from '../../kit/clock.ts';
import { ACK_BYTES, BARE_PATH, HEARTBEAT_BYTES, identity } from './bare-stream.ts';
import { serveParent } from './child.ts';
import type { ControlPlaneReady, Usage } from './control-plane-main.ts';

/**
 * grpc-js and nothing else: mTLS, one bidi stream a client, an acknowledgement for each message of a heartbeat's size.
 * One listener with the windows of HTTP/2's defaults, one with ours.
 */
export interface BareServerReady {
	readonly standard: string;
	readonly raised: string;
}

const { identity: tls } = JSON.parse(process.argv[2] ?? '{}') as ControlPlaneReady;
using _alive = keepAlive();
let streams = 0;
const ack = Buffer.alloc(ACK_BYTES);

function onStream(call: ServerDuplexStream<Buffer, Buffer>): void {
	streams += 1;
	call.on('data', (bytes: Buffer) => {
		if (bytes.length <= HEARTBEAT_BYTES) call.write(ack);
	});
	call.on('error', () => {});
	call.on('close', () => {
		streams -= 1;
	});
	call.on('end', () => call.end());
}

async function listen(credentials: ServerCredentials): Promise<string> {
	const server = new Server({ 'grpc.enable_channelz': 0, 'grpc.max_receive_message_length': 4 * 1024 * 1024 });
	server.register(BARE_PATH, onStream, identity, identity, 'bidi');
	const port = await new Promise<number>((resolve, reject) =>
		server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error))),
	);
	return `127.0.0.1:${port}`;
}

const standard = await listen(
	ServerCredentials.createSsl(
		Buffer.from(tls.clientAnchorsPem),
		[{ cert_chain: Buffer.from(tls.chainPem), private_key: Buffer.from(tls.keyPem) }],
		true,
	),
);
const raised = await listen(new GatewayCredentials(tls));
// Also those of the first listener, whose streams stay at 64 KiB: one stream a connection is held back by that alone.
raiseConnectionWindows(BARE_PATH, GATEWAY_WIRE_LIMITS_DEFAULT.connectionWindowBytes);
await serveParent({ standard, raised } satisfies BareServerReady, async () => {
	const { user, system } = process.cpuUsage();
	return { cpuUs: user + system, rssBytes: process.memoryUsage.rss(), sessions: streams } satisfies Usage;
});
process.exit();
