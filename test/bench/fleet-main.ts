import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import { IdentityFolder, type IdentityState } from '../../agent/identity/state-file.ts';
import { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { sampleHost } from '../../agent/telemetry/host.ts';
import { Sensors } from '../../agent/telemetry/sensors.ts';
import { keepAlive, sleep, systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { serveParent } from './child.ts';
import { PacedTransport } from './paced-transport.ts';
import { SimulatedAgent } from './simulated-agent.ts';
import { useManySourceAddresses } from './source-addresses.ts';

/** Simulated agents, in one of the processes of a fleet, and what a row asks them. */
export type FleetQuestion =
	/** Starts an agent for each, `perSecond` of them a second. */
	| { readonly ask: 'start'; readonly identities: readonly IdentityState[]; readonly perSecond: number }
	| { readonly ask: 'state' }
	/** Answered once all are connected, or after so long: whoever asks again and again takes the time of those who connect. */
	| { readonly ask: 'connected'; readonly withinMs: number }
	/** Forgets how often links were lost and how long they were silent. */
	| { readonly ask: 'forget' }
	| { readonly ask: 'stop' };

export interface FleetState {
	readonly agents: number;
	readonly connected: number;
	/** Wall clock, of each agent that is connected; empty unless `connected` was asked. */
	readonly connectedAtMs: readonly number[];
	/** Links that were lost since `forget`. */
	readonly losses: number;
	/** The longest that a connected agent had heard nothing, in samples since `forget`. */
	readonly silentMaxMs: number;
	/** Of one agent that isn't connected. */
	readonly trouble: string;
}

export interface FleetSettings {
	/** Which of the fleet's processes it is, from 0. */
	readonly index: number;
	/** Each agent has a host of its own elsewhere: what this process can have under way here. */
	readonly dialsAtOnce: number;
}

/** Heartbeats are seconds apart; each look is at every agent. */
const SILENCE_LOOK_MS = 1000;

const { index: fleetIndex, dialsAtOnce } = JSON.parse(process.argv[2] ?? '') as FleetSettings;
useManySourceAddresses(fleetIndex);
using _alive = keepAlive();
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-fleet-'));
const identityFolder = new IdentityFolder(join(folder, 'identity'), systemRng);
const transport = new PacedTransport(new GrpcTransport(systemClock), systemClock, dialsAtOnce);
const values = sampleHost({
	procRoot: '/proc',
	sysRoot: '/sys',
	dataFolder: folder,
	clock: systemClock,
	sensors: new Sensors('/sys'),
	runningTasks: () => 0,
});
let agents: SimulatedAgent[] = [];
let connected = 0;
let onAllConnected = () => {};
let lossesBefore = 0;
let silentMaxMs = 0;
const look = async () => {
	for (;;) {
		await sleep(systemClock, SILENCE_LOOK_MS);
		for (const agent of agents) silentMaxMs = Math.max(silentMaxMs, agent.silentMs);
	}
};
void look();
await serveParent<FleetQuestion>(null, answer);
rmSync(folder, { recursive: true, force: true });
process.exit();

async function answer(question: FleetQuestion): Promise<FleetState> {
	if (question.ask === 'start') await start(question.identities, question.perSecond);
	else if (question.ask === 'forget') {
		lossesBefore = losses();
		silentMaxMs = 0;
	} else if (question.ask === 'connected') await allConnected(question.withinMs);
	else if (question.ask === 'stop') {
		await Promise.all(agents.map((agent) => agent.stop()));
		agents = [];
		lossesBefore = 0;
	}
	return {
		agents: agents.length,
		connected,
		connectedAtMs:
			question.ask === 'connected'
				? agents.map((agent) => agent.connectedAtMs).filter((atMs) => atMs !== undefined)
				: [],
		losses: losses() - lossesBefore,
		silentMaxMs,
		trouble: agents.find((agent) => agent.connectedAtMs === undefined)?.trouble ?? '',
	};
}

async function start(identities: readonly IdentityState[], perSecond: number): Promise<void> {
	const startedMs = systemClock.monotonic();
	for (const [index, state] of identities.entries()) {
		const agent = new SimulatedAgent(new StoredIdentity(identityFolder, state), transport, values, onConnected);
		agents.push(agent);
		const dueMs = startedMs + (index / perSecond) * 1000;
		await sleep(systemClock, dueMs - systemClock.monotonic());
		agent.start();
	}
}

function onConnected(isConnected: boolean): void {
	connected += isConnected ? 1 : -1;
	if (connected === agents.length) onAllConnected();
}

async function allConnected(withinMs: number): Promise<void> {
	if (connected === agents.length) return;
	const given = new AbortController();
	onAllConnected = () => given.abort();
	await sleep(systemClock, withinMs, given.signal);
	onAllConnected = () => {};
}

function losses(): number {
	return agents.reduce((sum, agent) => sum + agent.losses, 0);
}
