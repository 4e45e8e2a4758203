import { createSecureContext } from 'node:tls';
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import type { IdentityState } from '../../agent/identity/state-file.ts';
import { fromBase64 } from '../../agent/identity/stored-identity.ts';
import { keepAlive, sleep, systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { decodeBundle, rootsPem } from '../../pki/trust/bundle.ts';
import { gatewayDnsName } from '../../pki/trust/spiffe.ts';
import { certificatePem } from '../../pki/x509/pem.ts';
import { BARE_PATH, HEARTBEAT_BYTES, identity, TELEMETRY_BYTES } from './bare-stream.ts';
import { serveParent } from './child.ts';
import { useManySourceAddresses } from './source-addresses.ts';

/** Clients of bare-server-main.ts: the same certificates, one connection and one stream each, the same traffic. */
export type BareFleetQuestion =
	| {
			readonly ask: 'start';
			readonly address: string;
			readonly identities: readonly IdentityState[];
			/** Connections that are being made at once. */
			readonly parallel: number;
			readonly heartbeatMs: number;
	  }
	| { readonly ask: 'stop' };

const TELEMETRY_MS = 15_000;

interface BareClient {
	readonly client: Client;
	readonly stream: ClientDuplexStream<Buffer, Buffer>;
}

useManySourceAddresses(0);
using _alive = keepAlive();
let clients: BareClient[] = [];
let round = 0;
await serveParent<BareFleetQuestion>(null, async (question) => {
	round += 1;
	if (question.ask === 'start') await start(question);
	else {
		for (const { client, stream } of clients) {
			stream.cancel();
			client.close();
		}
		clients = [];
	}
	return clients.length;
});
process.exit();

async function start(question: Extract<BareFleetQuestion, { readonly ask: 'start' }>): Promise<void> {
	const own = round;
	const next = question.identities.values();
	const connector = async () => {
		for (const state of next) {
			const client = await connect(question.address, state);
			clients.push(client);
			void say(client.stream, Buffer.alloc(TELEMETRY_BYTES), TELEMETRY_MS, () => own === round);
			void say(client.stream, Buffer.alloc(HEARTBEAT_BYTES), question.heartbeatMs, () => own === round);
		}
	};
	await Promise.all(Array.from({ length: question.parallel }, connector));
}

async function say(
	stream: ClientDuplexStream<Buffer, Buffer>,
	bytes: Buffer,
	periodMs: number,
	isWanted: () => boolean,
): Promise<void> {
	await sleep(systemClock, systemRng.float() * periodMs);
	while (isWanted()) {
		stream.write(bytes);
		await sleep(systemClock, periodMs);
	}
}

function connect(address: string, { current, bundle, trustDomain }: IdentityState): Promise<BareClient> {
	const context = createSecureContext({
		cert: current.chain.map((der) => certificatePem(fromBase64(der))).join(''),
		key: current.keyPem,
		ca: rootsPem(decodeBundle(fromBase64(bundle))),
		minVersion: 'TLSv1.3',
	});
	const client = new Client(address, credentials.createFromSecureContext(context), {
		'grpc.ssl_target_name_override': gatewayDnsName(trustDomain),
		'grpc.use_local_subchannel_pool': 1,
		'grpc.enable_channelz': 0,
		'grpc.service_config_disable_resolution': 1,
		'grpc.enable_retries': 0,
	});
	const stream = client.makeBidiStreamRequest(BARE_PATH, identity, identity);
	stream.on('error', () => {});
	return new Promise((resolve, reject) => {
		stream.once('status', ({ details }) => reject(new Error(`a bare stream ended: ${details}`)));
		// The first acknowledgement: connected both ways.
		stream.once('data', () => {
			stream.on('data', () => {});
			resolve({ client, stream });
		});
		stream.write(Buffer.alloc(HEARTBEAT_BYTES));
	});
}
