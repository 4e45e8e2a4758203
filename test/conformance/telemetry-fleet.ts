import { toBinary } from '@bufbuild/protobuf';
import { type FixtureModel, fixtureFrame, fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { OpsServer } from '../../control-plane/ops/server.ts';
import { NodeHealthReconciler } from '../../control-plane/reconcilers/node-health.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { every, systemClock, type Timer } from '../../kit/clock.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { eventually } from '../eventually.ts';
import { monitorDeps } from '../health-monitor.ts';
import { ApiWorld } from '../integration/api-world.ts';

/**
 * A *simulated* fleet behind real ops pages: nodes with one GPU each, whose frames go straight to the ingest, all of them
 * again every few seconds. One in ten has an A100, one in ten a GPU with MIG.
 */
export class TelemetryFleet implements AsyncDisposable {
	readonly world: ApiWorld;
	readonly ops: OpsServer;
	readonly health: NodeHealthReconciler;
	readonly models: readonly FixtureModel[];
	readonly nodes: readonly NodeRow[];
	readonly silent = new Set<string>();
	#tick = 0;
	readonly #timer: Timer;

	private constructor(
		{ world, ops, health }: Pick<TelemetryFleet, 'world' | 'ops' | 'health'>,
		nodes: readonly NodeRow[],
		models: readonly FixtureModel[],
	) {
		this.world = world;
		this.ops = ops;
		this.health = health;
		this.nodes = nodes;
		this.models = models;
		this.#timer = every(
			systemClock,
			5000,
			() => this.say(),
			() => {},
		);
	}

	static async start(count: number): Promise<TelemetryFleet> {
		// Four of its own periods: a busy machine must not make the whole fleet look silent.
		const world = await ApiWorld.start({ telemetryLimits: { staleAfterMs: 20_000 } });
		const { deps, registry } = world;
		const models = Array.from(
			{ length: count },
			(_, index): FixtureModel => (index % 10 === 1 ? 'A100' : index % 10 === 2 ? 'H100 MIG' : 'H100'),
		);
		const nodes: NodeRow[] = [];
		for (const [index, model] of models.entries()) {
			const node = await world.addNode({ name: `gpu-${index}`, hostname: `gpu-${index}` });
			nodes.push(node);
			const inventory = toBinary(InventorySchema, fixtureInventory({ model, gpus: 1, node: index }));
			const receivedAtMs = systemClock.now();
			await deps.store.unit((tx) =>
				tx.inventories.put({ nodeId: node.id, custody: 'platform', digest: 'd', inventory, receivedAtMs }),
			);
			deps.bus.publish({ topic: 'nodes.inventory', key: node.id });
		}
		const { telemetry } = deps;
		await eventually('inventories are known', () =>
			nodes.every(({ id }) => telemetry.directory.get(id)?.identities !== undefined),
		);
		const health = new NodeHealthReconciler(monitorDeps(deps));
		const { monitor } = health;
		const listen = { host: '127.0.0.1', port: 0 };
		const ops = await OpsServer.listen({ deps, registry, telemetry, health: monitor, listen });
		const fleet = new TelemetryFleet({ world, ops, health }, nodes, models);
		fleet.say();
		await eventually('the newest node is judged', () => monitor.verdictsOf(nodes.at(-1)?.id ?? '').length > 1);
		return fleet;
	}

	get url(): string {
		return `http://127.0.0.1:${this.ops.address.port}`;
	}

	/** Names of the nodes with one of these models. */
	named(...models: readonly FixtureModel[]): string[] {
		return this.nodes.filter((_, index) => models.includes(this.models[index] as FixtureModel)).map(({ name }) => name);
	}

	say(): void {
		this.#tick += 1;
		for (const [index, node] of this.nodes.entries()) {
			if (this.silent.has(node.id)) continue;
			const model = this.models[index] ?? 'H100';
			const frame = fixtureFrame({ atMs: systemClock.now(), model, gpus: 1, node: index, tick: this.#tick });
			this.world.deps.telemetry.ingest.ingest(node.id, frame);
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.ops[Symbol.asyncDispose]();
		await this.health[Symbol.asyncDispose]();
		await this.world[Symbol.asyncDispose]();
	}
}
