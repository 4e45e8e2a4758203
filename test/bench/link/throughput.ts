import { fork } from 'node:child_process';
import { once } from 'node:events';
import { startWorld } from '../../integration/link-world.ts';
import type { ThroughputJob } from './throughput-client.ts';

/**
 * Bytes a second of one upload stream through a relay with a round-trip time; gateway, relay and agent in processes of
 * their own. `node test/bench/link/throughput.ts [raised|default]`: our windows, or HTTP/2's. Output is counted and
 * thrown away, so that only the link is measured. Prints one JSON line a measurement.
 */
const windows = process.argv[2] ?? 'raised';
const isRaised = windows === 'raised';
const world = await startWorld({
	gateway: isRaised ? {} : { tls: { streamWindowBytes: 65_535 }, wire: { connectionWindowBytes: 65_535 } },
});
let received = 0n;
const gateway = await world.startGateway({
	openUpload: async () => ({
		storedOffset: 0n,
		complete: false,
		append: async (chunks) => {
			for (const { data } of chunks) received += BigInt(data.length);
			return received;
		},
		end: async () => true,
	}),
});
const relay = fork(new URL('./relay.ts', import.meta.url), [String(gateway.port)]);
const [relayPort] = (await once(relay, 'message')) as [number];
const client = fork(new URL('./throughput-client.ts', import.meta.url), { serialization: 'advanced' });
const identity = await world.enroll();
for (const rttMs of [0, 10, 50]) {
	relay.send(rttMs);
	await once(relay, 'message');
	for (const isBounded of [false, true]) {
		received = 0n;
		const bytes = isRaised || rttMs === 0 ? 96 * 1024 * 1024 : 6 * 1024 * 1024;
		const job: ThroughputJob = {
			port: relayPort,
			bytes,
			isBounded,
			identity: { nodeId: identity.nodeId, credential: identity.credential(), bundle: identity.bundle() },
		};
		const cpu = process.cpuUsage();
		client.send(job);
		const [elapsedMs] = (await once(client, 'message')) as [number];
		const megabytesPerSecond = Math.round((bytes / 1e6 / (elapsedMs / 1000)) * 10) / 10;
		const { user, system } = process.cpuUsage(cpu);
		const gatewayCpuMsPerMB = Math.round((user + system) / 10 / (bytes / 1e6)) / 100;
		const what = isBounded ? 'upload, at most 1 MiB unacknowledged' : 'bare stream';
		process.stdout.write(`${JSON.stringify({ what, windows, rttMs, megabytesPerSecond, gatewayCpuMsPerMB })}\n`);
	}
}
client.kill();
relay.kill();
await world[Symbol.asyncDispose]();
