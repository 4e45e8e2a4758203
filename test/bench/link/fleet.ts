import { fork } from 'node:child_process';
import { once } from 'node:events';
import { sleep, systemClock } from '../../../kit/clock.ts';
import { eventually } from '../../eventually.ts';
import { startWorld } from '../../integration/link-world.ts';
import type { ClientJob, ClientReply } from './fleet-client.ts';

/**
 * The agent link with gateway and agents in two processes: memory of an idle agent at the gateway, connects a second,
 * and facts a second, each committed. `node --expose-gc test/bench/link/fleet.ts [agents]`; prints one JSON line a measurement.
 */
const agents = Number(process.argv[2] ?? 1000);

await using world = await startWorld({
	appLimits: { hellosPerSecondMax: 10_000 },
	gateway: {
		acceptor: { handshakesPerSecond: 10_000, handshakesPerSecondPerAddress: 10_000, handshakesBurstPerAddress: 20_000 },
	},
	limits: { tickMs: 500 },
});
const client = fork(new URL('./fleet-client.ts', import.meta.url), { serialization: 'advanced' });

async function run(job: ClientJob): Promise<ClientReply> {
	client.send(job);
	const [reply] = (await once(client, 'message')) as [ClientReply];
	return reply;
}

function print(what: string, values: Record<string, number>): void {
	const rounded = Object.entries(values).map(([name, value]) => [name, Math.round(value * 100) / 100]);
	process.stdout.write(`${JSON.stringify({ what, ...Object.fromEntries(rounded) })}\n`);
}

const identities = [];
for (let count = 0; count < agents; count += 1) {
	const identity = await world.enroll();
	identities.push({ nodeId: identity.nodeId, credential: identity.credential(), bundle: identity.bundle() });
}
globalThis.gc?.();
const port = world.gateway.port;
const before = process.memoryUsage.rss();
const cpuBefore = process.cpuUsage();
const connected = await run({ kind: 'connect', port, identities });
await eventually('all are in', () => world.gateway.link.sessionCount === agents);
print('connect', {
	agents,
	perSecond: agents / (connected.elapsedMs / 1000),
	gatewayCpuMs: process.cpuUsage(cpuBefore).user / 1000 / agents,
});
// Again, as after a restart of the control plane: certificates are in use already.
const cpuAgain = process.cpuUsage();
const again = await run({ kind: 'reconnect', port, identities });
await eventually(
	'all are back',
	() => world.gateway.link.sessionCount === agents && world.gateway.connections() === agents,
);
print('reconnect', {
	agents,
	perSecond: agents / (again.elapsedMs / 1000),
	gatewayCpuMs: process.cpuUsage(cpuAgain).user / 1000 / agents,
});
globalThis.gc?.();
const idleFromMs = systemClock.monotonic();
const idleCpu = process.cpuUsage();
await sleep(systemClock, 10_000);
const idle = process.cpuUsage(idleCpu);
globalThis.gc?.();
print('idle', {
	agents,
	gatewayKBPerAgent: (process.memoryUsage.rss() - before) / 1024 / agents,
	gatewayCpuPercent: ((idle.user + idle.system) / 1000 / (systemClock.monotonic() - idleFromMs)) * 100,
});
const facts = await run({ kind: 'facts', count: 20_000, links: 10 });
print('facts', { links: 10, perSecond: facts.count / (facts.elapsedMs / 1000) });
client.kill();
