import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { MonitorDeps } from '../../control-plane/app/health/monitor.ts';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import { HEALTH_RECORD_TOPIC } from '../../control-plane/app/health/record-evidence.ts';
import type { CommandInit } from '../../control-plane/app/sessions/command-stream.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { fixtureFrame, fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { systemContext } from '../../control-plane/context.ts';
import { NodeHealthReconciler } from '../../control-plane/reconcilers/node-health.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { assert, present } from '../../kit/assert.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { HealthClearing, HealthService } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import {
	type HealthFact,
	HealthFactKind,
	HealthFactSchema,
	HealthSource,
	HealthSubjectKind,
	InventorySchema,
	PartSampleSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { IB_PORT_VALUES } from '../../proto/telemetry-schema/links.ts';
import { eventually } from '../eventually.ts';
import { monitorDeps } from '../health-monitor.ts';
import { ApiWorld, type ApiWorldOptions } from './api-world.ts';

/** For tests that don't bring the circuit breaker to its limit by themselves. */
export const ROOMY = { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, nodesMax: 1000 };

type RingQuery = Extract<CommandInit['command'], { case: 'historyQuery' }>['value'];
type FactInit = Omit<Partial<HealthFact>, '$typeName' | '$unknown' | 'subject'> & {
	readonly subject?: { readonly kind: HealthSubjectKind; readonly id: string; readonly index?: number };
};

/**
 * Real API, store and health monitor, on a clock that moves when told to; agents are *simulated*: frames are handed to the
 * ingest and facts to what commits those of agents. What they say is not marked simulated, so that it is judged as real.
 */
export class HealthWorld implements AsyncDisposable {
	readonly api: ApiWorld;
	readonly clock: VirtualClock;
	readonly #over: Partial<MonitorDeps>;
	#reconciler: NodeHealthReconciler;
	/** Of other replicas, activated with ours. */
	readonly alongside = new Set<NodeHealthReconciler>();
	/** Answers what is asked of a node's ring; false: it can't be asked. */
	ring: ((nodeId: string, query: RingQuery) => boolean) | undefined;
	#seq = 0;

	private constructor(api: ApiWorld, clock: VirtualClock, over: Partial<MonitorDeps>) {
		this.api = api;
		this.clock = clock;
		this.#over = over;
		this.#reconciler = this.#newReconciler();
	}

	static async start(
		over: Partial<MonitorDeps> = {},
		api: Pick<ApiWorldOptions, 'openStore'> = {},
	): Promise<HealthWorld> {
		const clock = new VirtualClock(systemClock.now());
		// Its timers are those of sockets and files; what it calls now is ours.
		const wall: Clock = { ...systemClock, now: () => clock.now() };
		return new HealthWorld(await ApiWorld.start({ ...api, clock: wall, telemetryClock: clock }), clock, over);
	}

	get monitor() {
		return this.#reconciler.monitor;
	}

	/** Of the project that nodes are assigned to here. */
	tenantViewer(): Promise<string> {
		return this.api.addPrincipal('user', 'tenant.viewer', 'organizations/acme/projects/train', 30 * 86_400_000);
	}

	nodes(key = this.api.operatorKey) {
		return this.api.client(NodeService, key);
	}

	assign({ id }: NodeRow, mode: AssignmentMode = AssignmentMode.OPERATOR) {
		return this.nodes().assignNode({ node: id, organization: 'acme', project: 'train', mode });
	}

	row({ id }: NodeRow) {
		return this.api.deps.store.read((tx) => tx.nodeHealth.get(id));
	}

	get operator() {
		return this.api.client(HealthService, this.api.operatorKey);
	}

	/** As a restart of the control plane: all that was in memory is gone. */
	async restart(over: Partial<MonitorDeps> = {}): Promise<void> {
		await this.#reconciler[Symbol.asyncDispose]();
		Object.assign(this.#over, over);
		this.#reconciler = this.#newReconciler();
		await this.look();
	}

	/** One activation, of this replica alone. */
	once(): Promise<void> {
		return this.#reconciler.once();
	}

	/** Enough activations for everything that is there. */
	async look(): Promise<void> {
		for (let times = 0; times < 3; times += 1) await this.#once();
	}

	async addGpuNode(patch: Partial<NodeRow> = {}): Promise<NodeRow> {
		const { deps } = this.api;
		const node = await this.api.addNode(patch);
		const inventory = toBinary(InventorySchema, fixtureInventory({ gpus: 2 }));
		const receivedAtMs = this.clock.now();
		await deps.store.unit((tx) =>
			tx.inventories.put({ nodeId: node.id, custody: 'platform', digest: 'd', inventory, receivedAtMs }),
		);
		deps.bus.publish({ topic: 'nodes.inventory', key: node.id });
		const known = () => deps.telemetry.directory.get(node.id)?.identities !== undefined;
		// Its hints settle on the clock of telemetry.
		await eventually('its inventory is known', () => {
			this.clock.advance(25);
			return known();
		});
		assert(deps.sessions instanceof SessionRegistry, 'an API world has a registry of its own');
		// What its ring has; nothing, and it doesn't answer.
		const command = (_key: string, sent: CommandInit) =>
			sent.command?.case !== 'historyQuery' || this.ring?.(node.id, sent.command.value) === true;
		deps.sessions.add({ nodeId: node.id, epoch: 1, serial: '', command, close: () => {} });
		return node;
	}

	/** A frame of both GPUs. */
	say({ id }: Pick<NodeRow, 'id'>, { gpus = 2, simulated = false, symbolErrors }: Said = {}): void {
		const frame = fixtureFrame({ atMs: this.clock.now(), gpus });
		frame.simulated = simulated;
		if (symbolErrors !== undefined) {
			const value = ({ key }: { readonly key: string }) => (key === 'errors.symbol_error' ? symbolErrors : 0);
			frame.ibPorts = [create(PartSampleSchema, { id: 'mlx5_0', index: 1, values: IB_PORT_VALUES.map(value) })];
		}
		this.api.deps.telemetry.ingest.ingest(id, frame);
	}

	/** A frame each period, for so long. */
	async goOn(node: Pick<NodeRow, 'id'>, lastsMs: number, frame: Said = {}): Promise<void> {
		for (let passedMs = 0; passedMs < lastsMs; passedMs += 15_000) {
			await this.pass(15_000);
			this.say(node, frame);
			await this.look();
		}
	}

	/** Time with nothing said, an activation each few seconds as in a process that lives. */
	async pass(lastsMs: number): Promise<void> {
		for (let passedMs = 0; passedMs < lastsMs; passedMs += 3000) {
			this.clock.advance(Math.min(3000, lastsMs - passedMs));
			await this.#once();
		}
	}

	async fact(node: Pick<NodeRow, 'id'>, fact: FactInit = {}): Promise<void> {
		await this.store(node, fact);
		this.api.deps.bus.publish({ topic: HEALTH_RECORD_TOPIC, key: node.id });
		await this.look();
	}

	/** It is committed, and nobody is told. */
	async store({ id: nodeId }: Pick<NodeRow, 'id'>, fact: FactInit = {}): Promise<void> {
		const { deps } = this.api;
		this.#seq += 1;
		const value = {
			subject: { kind: HealthSubjectKind.GPU, id: GPU_0 },
			source: HealthSource.KMSG,
			observedAt: timestampFromMs(this.clock.now()),
			bootId: 'boot-1',
			count: 1,
			...fact,
		};
		const health = create(HealthFactSchema, value);
		const made = create(FactSchema, { seq: BigInt(this.#seq), fact: { case: 'health', value: health } });
		const ctx = systemContext('test', this.clock, silentLogger, 'test');
		const onHealthFacts = deps.telemetry.xids.count;
		await recordFacts({ ...deps, clock: this.clock, onHealthFacts }, ctx, { nodeId, epoch: 0 }, [made]);
	}

	xid(node: Pick<NodeRow, 'id'>, code: number, more: FactInit = {}): Promise<void> {
		const raw = `NVRM: Xid (PCI:0000:1b:00): ${code}, pid=1`;
		return this.fact(node, { kind: HealthFactKind.XID, code: `xid:${code}`, raw, ...more });
	}

	async health({ id }: Pick<NodeRow, 'id'>, client = this.operator) {
		const { health } = await client.getNodeHealth({ node: id });
		assert(health !== undefined, 'an answer has the health of the node');
		return health;
	}

	/** One that has shown that it is well. */
	async addWellNode(patch: Partial<NodeRow> = {}): Promise<NodeRow> {
		const node = await this.addGpuNode(patch);
		this.say(node);
		await this.look();
		this.say(node);
		await this.look();
		return node;
	}

	/** What the API says of one GPU. */
	async gpuOf(node: NodeRow, id = GPU_0) {
		const { verdicts } = await this.health(node);
		return present(
			verdicts.find(({ subject }) => subject?.id === id),
			'a verdict of the GPU',
		);
	}

	/** A task of the operator that ran just now, as its receipt said. */
	async passedTask({ id: node }: NodeRow): Promise<string> {
		const tasks = this.api.client(TaskService, this.api.operatorKey);
		const { task } = await tasks.createTask({ node, spec: { kind: { case: 'run', value: { argv: ['/x'] } } } });
		const { id } = present(task, 'a task');
		const atMs = this.clock.now();
		await this.api.deps.store.unit((tx) =>
			tx.tasks.update(id, { state: 'succeeded', startedAtMs: atMs, endedAtMs: atMs }),
		);
		return id;
	}

	async evidence({ id: node }: NodeRow, clearing: HealthClearing, taskId = ''): Promise<void> {
		// A reset is of one GPU.
		const isOfGpu = clearing === HealthClearing.GPU_RESET;
		const subject = isOfGpu ? { subject: { kind: HealthSubjectKind.GPU, id: GPU_0 } } : {};
		await this.operator.recordNodeHealthEvidence({ node, clearing, taskId, reason: 'looked', ...subject });
		await this.look();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#reconciler[Symbol.asyncDispose]();
		await this.api[Symbol.asyncDispose]();
	}

	async #once(): Promise<void> {
		for (const one of [this.#reconciler, ...this.alongside]) await one.once();
	}

	#newReconciler(): NodeHealthReconciler {
		return new NodeHealthReconciler(monitorDeps(this.api.deps, { clock: this.clock, ...this.#over }), {
			// Activated by hand.
			periodMs: 1e12,
		});
	}
}

interface Said {
	readonly gpus?: number;
	readonly simulated?: boolean;
	/** Of an InfiniBand port; undefined: there is none. */
	readonly symbolErrors?: number;
}

/** Of fixtureFrame. */
export const GPU_0 = 'GPU-00000000-0000-4000-8000-000000000000';
