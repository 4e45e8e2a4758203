import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IdentityState } from '../../agent/identity/state-file.ts';
import { eventually } from '../eventually.ts';
import { BenchChild } from './child.ts';
import type { ControlPlaneQuestion, ControlPlaneReady, Usage } from './control-plane-main.ts';
import type { FleetQuestion, FleetState } from './fleet-main.ts';

/** A control plane and a fleet of simulated agents, each in its process, for rows to put questions to. */
export class FleetWorld implements AsyncDisposable {
	readonly folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-plane-'));
	readonly #fleet = new BenchChild('./fleet-main.ts', {}, HEAP);
	#plane: BenchChild;
	#identities: IdentityState[] = [];
	ready: ControlPlaneReady | undefined;

	private constructor() {
		this.#plane = new BenchChild('./control-plane-main.ts', { folder: this.folder, port: 0 });
	}

	static async open(): Promise<FleetWorld> {
		const world = new FleetWorld();
		await world.#fleet.ready;
		world.ready = (await world.#plane.ready) as ControlPlaneReady;
		return world;
	}

	plane<T>(question: ControlPlaneQuestion): Promise<T> {
		return this.#plane.ask<T>(question);
	}

	fleet(question: FleetQuestion): Promise<FleetState> {
		return this.#fleet.ask<FleetState>(question);
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

	/** Starts agents at a pace that the gateway takes, and waits until all are connected. */
	async connect(count: number): Promise<void> {
		await this.fleet({ ask: 'start', identities: await this.identities(count), perSecond: 250 });
		await this.connected(count);
	}

	async connected(count: number): Promise<FleetState> {
		return await eventually(
			`${count} agents are connected`,
			async () => {
				const state = await this.fleet({ ask: 'state' });
				return state.connected === count && state;
			},
			600_000,
		);
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
		this.#plane = new BenchChild('./control-plane-main.ts', { folder: this.folder, port });
		await this.#plane.ready;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#fleet[Symbol.asyncDispose]();
		await this.#plane[Symbol.asyncDispose]();
		rmSync(this.folder, { recursive: true, force: true });
	}
}

/** Ten thousand clients are more than Node's default heap. */
export const HEAP = ['--max-old-space-size=8192'];
