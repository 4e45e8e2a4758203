import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IdentityState } from '../../agent/identity/state-file.ts';
import { daemonNodeArgs } from '../../cli/daemon.ts';
import { systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import { BenchChild } from './child.ts';
import type { ControlPlaneQuestion, ControlPlaneReady, Usage } from './control-plane-main.ts';
import { cpuUsOf } from './cpu.ts';
import type { FleetQuestion, FleetSettings, FleetState } from './fleet-main.ts';

/**
 * A control plane in its process and a fleet of simulated agents in several, for rows to put questions to. In one
 * process an agent would answer the gateway's PINGs only after the handshakes of thousands of others.
 */
export class FleetWorld implements AsyncDisposable {
	readonly folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-plane-'));
	readonly #fleets = Array.from({ length: FLEETS }, (_, index) => {
		const settings: FleetSettings = { index, dialsAtOnce: DIALS_AT_ONCE / FLEETS };
		return new BenchChild('./fleet-main.ts', settings, HEAP);
	});
	#plane: BenchChild;
	#identities: IdentityState[] = [];
	ready: ControlPlaneReady | undefined;

	private constructor() {
		this.#plane = new BenchChild(
			'./control-plane-main.ts',
			{ folder: this.folder, port: 0 },
			daemonNodeArgs('control-plane'),
		);
	}

	static async open(): Promise<FleetWorld> {
		const world = new FleetWorld();
		for (const fleet of world.#fleets) await fleet.ready;
		world.ready = (await world.#plane.ready) as ControlPlaneReady;
		return world;
	}

	plane<T>(question: ControlPlaneQuestion): Promise<T> {
		return this.#plane.ask<T>(question);
	}

	/** Of all its processes together. */
	async fleet(question: FleetQuestion): Promise<FleetState> {
		const states = await Promise.all(
			this.#fleets.map((fleet, index) => fleet.ask<FleetState>(shareOf(question, index))),
		);
		const sum = (of: (state: FleetState) => number) => states.reduce((total, state) => total + of(state), 0);
		return {
			agents: sum(({ agents }) => agents),
			connected: sum(({ connected }) => connected),
			connectedAtMs: states.flatMap(({ connectedAtMs }) => connectedAtMs),
			losses: sum(({ losses }) => losses),
			silentMaxMs: Math.max(...states.map(({ silentMaxMs }) => silentMaxMs)),
			trouble: states.find(({ trouble }) => trouble !== '')?.trouble ?? '',
		};
	}

	/** CPU time so far, in µs, of each process. */
	cpuUs(): Record<string, number> {
		const agents = this.#fleets.reduce((sum, { pid }) => sum + cpuUsOf(pid), 0);
		return { controlPlane: cpuUsOf(this.#plane.pid), agents };
	}

	usage(): Promise<Usage> {
		return this.plane<Usage>({ ask: 'usage' });
	}

	/** The first `count` nodes, enrolled when they weren't. */
	async identities(count: number): Promise<readonly IdentityState[]> {
		const missing = count - this.#identities.length;
		if (missing > 0) this.#identities.push(...(await this.plane<IdentityState[]>({ ask: 'enroll', count: missing })));
		return this.#identities.slice(0, count);
	}

	/** Starts agents as fast as they are welcomed, and waits until all are connected. */
	async connect(count: number): Promise<void> {
		const identities = await this.identities(count);
		for (let from = 0; from < count; from += STARTED_AT_ONCE) {
			const some = identities.slice(from, from + STARTED_AT_ONCE);
			await this.fleet({ ask: 'start', identities: some, perSecond: 250 });
			await this.connected(from + some.length);
		}
	}

	async connected(count: number): Promise<FleetState> {
		const endMs = systemClock.monotonic() + CONNECTED_WITHIN_MS;
		for (;;) {
			const withinMs = endMs - systemClock.monotonic();
			const state = await this.fleet({ ask: 'connected', withinMs });
			// Another process may have lost one while this one waited for its last.
			if (state.connected === count) return state;
			if (withinMs <= 0) throw new Error(`${state.connected} of ${count} agents are connected: ${state.trouble}`);
		}
	}

	async disconnect(): Promise<void> {
		await this.fleet({ ask: 'stop' });
		await eventually('no session is left', async () => (await this.usage()).sessions === 0, 600_000);
	}

	/** kill -9 of the control plane. */
	async kill(): Promise<void> {
		await this.#plane.kill();
	}

	/** Another one on the same data and port. */
	async restart(): Promise<void> {
		const port = Number(this.ready?.gateway.split(':').at(-1));
		this.#plane = new BenchChild(
			'./control-plane-main.ts',
			{ folder: this.folder, port },
			daemonNodeArgs('control-plane'),
		);
		await this.#plane.ready;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await Promise.all(this.#fleets.map((fleet) => fleet[Symbol.asyncDispose]()));
		await this.#plane[Symbol.asyncDispose]();
		rmSync(this.folder, { recursive: true, force: true });
	}
}

/** Processes of a fleet. */
const FLEETS = 4;
/** Of all of them together: each agent has a host of its own elsewhere, and a core here has many of them. */
const DIALS_AT_ONCE = 64;

const STARTED_AT_ONCE = 500;
const CONNECTED_WITHIN_MS = 600_000;

/** What one of the processes is asked. */
function shareOf(question: FleetQuestion, index: number): FleetQuestion {
	if (question.ask !== 'start') return question;
	const identities = question.identities.filter((_, each) => each % FLEETS === index);
	return { ...question, identities, perSecond: question.perSecond / FLEETS };
}

/** Ten thousand clients are more than Node's default heap. */
export const HEAP = ['--max-old-space-size=8192'];
