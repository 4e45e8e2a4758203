import { once } from 'node:events';
import { createSecureContext } from 'node:tls';
import { Client, credentials } from '@grpc/grpc-js';
import type { OutputSource } from '../../agent/control/command-sink.ts';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { LinkConnection } from '../../agent/control/link-transport.ts';
import { OutputUploader } from '../../agent/control/output-uploader.ts';
import { agentBundleOf } from '../../agent/identity/bundle.ts';
import { IdentityFolder, type IdentityState } from '../../agent/identity/state-file.ts';
import { fromBase64, StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { assert, present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { decodeBundle } from '../../pki/trust/bundle.ts';
import { gatewayDnsName } from '../../pki/trust/spiffe.ts';
import { certificatePem } from '../../pki/x509/pem.ts';
import type { BareServerReady } from './bare-server-main.ts';
import { identity as asBytes, BARE_PATH, STREAM_WINDOW_BYTES } from './bare-stream.ts';
import { BenchChild } from './child.ts';
import type { Usage } from './control-plane-main.ts';
import { FleetWorld } from './fleet-world.ts';
import { timed } from './measure.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Output of a task from the agent's uploader to the durable file of the control plane, by one UploadOutput stream over
 * mTLS through a relay that delays: n is the round trip. Beside it the same bytes on a bare grpc-js stream over the same
 * relay and windows, which nobody stores or acknowledges, and one with the default windows of HTTP/2. Connections are
 * made before. Agent, relay and control plane are processes of their own.
 */
const PIECE = new Uint8Array(64 * 1024).fill(120);

export const row: Row = {
	name: 'link-throughput',
	what: 'UploadOutput, one stream',
	unit: 'MB/s',
	per: 'ms RTT',
	reference: 'bare grpc-js stream with the same windows (1 MiB a stream, 4 MiB a connection)',
	targets: [atLeast(0.8, '>= 80 % of bare with raised windows, at every RTT', ({ ratio }) => ratio?.median)],
	sizes: { full: [0, 10, 50], quick: [0, 10] },
	repetitions: { full: 5, quick: 2 },
	budgetSeconds: 60,
	async open() {
		const world = await FleetWorld.open();
		const ready = present(world.ready, 'the control plane is ready');
		const [state] = await world.identities(1);
		const node = present(state, 'a node is enrolled');
		const stored = new StoredIdentity(new IdentityFolder(`${world.folder}/agent`, systemRng), node);
		const bare = new BenchChild('./bare-server-main.ts', ready);
		const servers = (await bare.ready) as BareServerReady;
		const transport = new GrpcTransport(systemClock);
		return {
			async run(n) {
				const pieces = Math.ceil((n === 0 ? 64 : n <= 10 ? 32 : 16) * 16);
				const megabytes = (pieces * PIECE.length) / 1e6;
				const rate = (ms: number) => (megabytes / ms) * 1000;
				const ownCpu = new CpuMeter(megabytes, () => world.usage());
				const bareCpu = new CpuMeter(megabytes, () => bare.ask<Usage>('usage'));
				const product = await through(ready.gateway, n, async (gateway) => {
					const { trustDomain } = stored;
					const connection = transport.open({
						gateway,
						trustDomain,
						credential: stored.credential(),
						bundle: stored.bundle(),
					});
					const next = () => world.plane<string>({ ask: 'task', nodeId: node.nodeId });
					await upload(connection, await next(), 1);
					const taskId = await next();
					const ms = await ownCpu.during(() => upload(connection, taskId, pieces));
					const bytes = await world.plane<number>({ ask: 'stored', taskId });
					assert(bytes === pieces * PIECE.length, 'all of it was kept');
					connection.close();
					return rate(ms);
				});
				const raised = await through(servers.raised, n, async (gateway) =>
					rate(await bareMs(gateway, node, pieces, (send) => bareCpu.during(send))),
				);
				const small = await through(servers.standard, n, async (gateway) =>
					rate((await bareMs(gateway, node, Math.ceil(pieces / (n > 0 ? 8 : 1)), timed)) * (n > 0 ? 8 : 1)),
				);
				const also = {
					agentCpuMsPerMB: ownCpu.clientMsPerMB,
					bareClientCpuMsPerMB: bareCpu.clientMsPerMB,
					gatewayCpuMsPerMB: ownCpu.serverMsPerMB,
					bareServerCpuMsPerMB: bareCpu.serverMsPerMB,
					defaultWindowsMBps: small,
				};
				return { value: product, reference: raised, also };
			},
			async [Symbol.asyncDispose]() {
				await bare[Symbol.asyncDispose]();
				await world[Symbol.asyncDispose]();
			},
		};
	},
};

/** CPU time of both ends, which other programs on the machine disturb less than the rate. */
class CpuMeter {
	readonly #megabytes: number;
	readonly #server: () => Promise<Usage>;
	clientMsPerMB = 0;
	serverMsPerMB = 0;

	constructor(megabytes: number, server: () => Promise<Usage>) {
		this.#megabytes = megabytes;
		this.#server = server;
	}

	/** Milliseconds that `work` took. */
	async during(work: () => Promise<void>): Promise<number> {
		const serverBefore = await this.#server();
		const clientBefore = process.cpuUsage();
		const ms = await timed(work);
		const { user, system } = process.cpuUsage(clientBefore);
		this.clientMsPerMB = (user + system) / 1000 / this.#megabytes;
		this.serverMsPerMB = ((await this.#server()).cpuUs - serverBefore.cpuUs) / 1000 / this.#megabytes;
		return ms;
	}
}

async function through<T>(address: string, rttMs: number, work: (address: string) => Promise<T>): Promise<T> {
	const port = Number(address.split(':').at(-1));
	await using relay = new BenchChild('./relay-main.ts', { port, rttMs });
	return await work((await relay.ready) as string);
}

/** By the agent's own uploader, from a source that always has the next piece. */
async function upload(connection: LinkConnection, taskId: string, pieces: number): Promise<void> {
	const isStored = Promise.withResolvers<void>();
	const pending = [{ taskId, attempt: 1, fencingToken: 1n }];
	const output: OutputSource = {
		async *read(_taskId, _attempt, fromOffset) {
			for (let index = Number(fromOffset) / PIECE.length; index < pieces; index += 1)
				yield { offset: BigInt(index * PIECE.length), stream: 'stdout', data: PIECE, droppedBytes: 0n };
		},
		pending: () => pending,
		onPending: () => {},
		stored: () => {
			pending.length = 0;
			isStored.resolve();
		},
	};
	const ended = new AbortController();
	const uploader = new OutputUploader({ clock: systemClock, rng: systemRng, log: silentLogger, output });
	uploader.start(ended.signal);
	uploader.setConnection(connection);
	await isStored.promise;
	ended.abort();
}

/** From the first byte on a connection that is up, to the answer to the last. */
async function bareMs(
	address: string,
	{ current, bundle, trustDomain }: IdentityState,
	pieces: number,
	measure: (work: () => Promise<void>) => Promise<number>,
): Promise<number> {
	const context = createSecureContext({
		cert: current.chain.map((der) => certificatePem(fromBase64(der))).join(''),
		key: current.keyPem,
		ca: agentBundleOf(decodeBundle(fromBase64(bundle))).rootsPem,
		minVersion: 'TLSv1.3',
	});
	const client = new Client(address, credentials.createFromSecureContext(context), {
		'grpc.ssl_target_name_override': gatewayDnsName(trustDomain),
		'grpc-node.flow_control_window': STREAM_WINDOW_BYTES,
		'grpc.use_local_subchannel_pool': 1,
		'grpc.max_send_message_length': 4 * 1024 * 1024,
	});
	const send = async (count: number) => {
		const stream = client.makeBidiStreamRequest(BARE_PATH, asBytes, asBytes);
		const ended = once(stream, 'status');
		stream.on('data', () => {});
		for (let sent = 0; sent < count; sent += 1) if (!stream.write(Buffer.from(PIECE))) await once(stream, 'drain');
		stream.end();
		await ended;
	};
	await send(1);
	const ms = await measure(() => send(pieces));
	client.close();
	return ms;
}
