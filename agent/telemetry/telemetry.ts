import { mkdirSync, readFileSync } from 'node:fs';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Clock } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { type Fact, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import {
	HealthFactKind,
	HealthSource,
	HealthSubjectKind,
	type HistoryAnswer,
	type HistoryQuery,
	type InjectedFault,
	type TelemetryFrame,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_SLOW_VALUES } from '../../proto/telemetry-schema/gpu-slow.ts';
import type { MachineFacts } from '../platform/machine-facts.ts';
import type { ProbeKeeper } from '../probe/keeper.ts';
import type { ProbeSample } from '../probe/protocol.ts';
import { type Collected, Collector } from './collector.ts';
import { DiskHangWatch } from './disk-hang-watch.ts';
import { type DiskHealthOptions, DiskHealthReader } from './disk-health.ts';
import { listDisks, sampleDisks } from './disks.ts';
import { FabricManager, type FabricManagerRoots, MANAGER } from './fabric-manager.ts';
import { GpuWatch } from './gpu-watch.ts';
import { type GpuSettings, gpuReader, openGpus, reportAnswer } from './gpus.ts';
import { HealthFacts } from './health-facts.ts';
import { answerHistory } from './history.ts';
import { sampleHost } from './host.ts';
import { HostWatch } from './host-watch.ts';
import { sampleIbPorts } from './ib-ports.ts';
import { InventoryKeeper } from './inventory-keeper.ts';
import { KeptCounters } from './kept-counters.ts';
import { LevelWatch } from './level-watch.ts';
import { nvlinkLevels, portRateLevels } from './levels.ts';
import { LoopDelay } from './loop-delay.ts';
import { ownerFinder, type ProcessOwner } from './process-owners.ts';
import { TelemetryRing } from './ring.ts';
import { type Plan, TelemetrySampler } from './sampler.ts';
import { Sensors } from './sensors.ts';
import { positions } from './watched-values.ts';
import { XidWatch } from './xid-watch.ts';

/**
 * Everything that this agent measures: a frame each period from the host and the GPU probe, kept in the ring and sent on
 * the droppable lane; what changed becomes health facts, what the node consists of the inventory, both in the journal.
 * It owns the probe. Nothing in it waits for the driver.
 */
export interface TelemetryOptions {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly nodeId: string;
	readonly bootId: string;
	readonly dataFolder: string;
	readonly plan: Plan;
	readonly gpu: GpuSettings;
	readonly kmsgPath: string;
	readonly roots?: FabricManagerRoots;
	readonly runningTasks: () => number;
	readonly disks: Pick<DiskHealthOptions, 'folder' | 'smartctl' | 'timeoutMs' | 'nvmeReader'>;
	/** Tasks and terminals that run now. Default: none is known. */
	readonly processOwners?: () => readonly ProcessOwner[];
	readonly readMachine: () => Promise<MachineFacts | undefined>;
	readonly journal: {
		appendFacts(facts: readonly Fact[]): unknown;
		transaction<T>(change: () => T): T;
		getSetting(name: string): string | undefined;
		putSetting(name: string, value: string): void;
	};
	readonly send: (frame: TelemetryFrame) => boolean;
}

/** For `agent status`. */
export interface TelemetryStatus {
	readonly probe: string;
	readonly gpus: number;
	readonly driver: string;
	readonly isSimulated: boolean;
	readonly message: string;
	readonly restarts: number;
	readonly misses: number;
	/** Longest delay of the agent's event loop since its first sample. */
	readonly loopDelayMaxMs: number;
	readonly historyBytes: number;
}

const KMSG_POSITION = 'telemetry.kmsg';
const INVENTORY = 'telemetry.inventory';
const BAD_STATES = 'telemetry.bad_states';
const COUNTERS = 'telemetry.counters';
const NVLINK_COUNTS = 'telemetry.nvlink_counts';
const PORT_RATES = 'telemetry.port_rates';
const FABRIC_STATE = positions(GPU_SLOW_VALUES).get('fabric.state') ?? -1;

export class Telemetry implements AsyncDisposable {
	readonly #options: TelemetryOptions;
	readonly #facts: HealthFacts;
	readonly #probe: ProbeKeeper | undefined;
	readonly #xids: XidWatch;
	readonly #gpuWatch: GpuWatch;
	readonly #hostWatch: HostWatch;
	readonly #diskHealth: DiskHealthReader;
	readonly #diskHangs: DiskHangWatch;
	readonly #nvlinkCounts: LevelWatch;
	readonly #portRates: LevelWatch;
	readonly #inventory: InventoryKeeper;
	readonly #ring = new TelemetryRing();
	readonly #sysRoot: string;
	readonly #collector: Collector;
	readonly #sampler: TelemetrySampler;
	readonly #loopDelay = new LoopDelay();
	#hasSampled = false;
	#gpuCount = 0;
	#isXidWatched = false;
	/** Of the newest slow sample: a GPU is part of an NVLink fabric. Undefined: none was asked yet. */
	#isFabricSeen: boolean | undefined;
	#fabricManagerIs = Number.NaN;

	constructor(options: TelemetryOptions) {
		const { clock, rng, log, bootId, gpu, journal } = options;
		const roots: FabricManagerRoots = options.roots ?? { procRoot: '/proc', sysRoot: '/sys' };
		mkdirSync(gpu.folder, { recursive: true, mode: 0o700 });
		this.#options = options;
		this.#sysRoot = roots.sysRoot;
		this.#facts = new HealthFacts({
			clock,
			log,
			bootId,
			append: (health) => void journal.appendFacts([this.#fact({ case: 'health', value: health })]),
			isSimulated: () => this.#isSimulated(),
			bad: this.#setting(BAD_STATES),
		});
		this.#probe = openGpus({ clock, rng, log, facts: this.#facts }, gpu);
		this.#xids = new XidWatch({
			clock,
			rng,
			log,
			facts: this.#facts,
			kmsgPath: options.kmsgPath,
			bootId,
			uptimeMs: () => uptimeMs(roots.procRoot),
			position: this.#setting(KMSG_POSITION),
		});
		this.#gpuWatch = new GpuWatch(this.#facts);
		this.#hostWatch = new HostWatch(this.#facts, new KeptCounters({ bootId, log, kept: this.#setting(COUNTERS) }));
		this.#diskHealth = new DiskHealthReader({ clock, log, sysRoot: roots.sysRoot, ...options.disks });
		this.#diskHangs = new DiskHangWatch(this.#facts);
		this.#nvlinkCounts = new LevelWatch({
			facts: this.#facts,
			kind: HealthFactKind.NVLINK_COUNT,
			subject: HealthSubjectKind.GPU,
			source: HealthSource.NVML,
			kept: this.#setting(NVLINK_COUNTS),
		});
		this.#portRates = new LevelWatch({
			facts: this.#facts,
			kind: HealthFactKind.IB_PORT_RATE,
			subject: HealthSubjectKind.NIC,
			source: HealthSource.SYSFS,
			kept: this.#setting(PORT_RATES),
		});
		this.#inventory = new InventoryKeeper({
			clock,
			log,
			bootId,
			...roots,
			readMachine: options.readMachine,
			readGpus: gpuReader(this.#probe, gpu.programs?.nvidiaSmi),
			kept: journal.getSetting(INVENTORY),
			store: (report, kept) =>
				journal.transaction(() => {
					journal.appendFacts([this.#fact({ case: 'inventory', value: report })]);
					journal.putSetting(INVENTORY, kept);
				}),
		});
		const gpus = this.#inventory.current?.gpus ?? [];
		this.#xids.setGpus(gpus);
		if (gpu.mode !== 'off') this.#gpuWatch.expect(gpus.map(({ uuid }) => uuid));
		if (this.#probe === undefined) this.#gpuWatch.observeNone();
		this.#collector = this.#makeCollector(roots);
		this.#sampler = new TelemetrySampler(
			{
				clock,
				nodeId: options.nodeId,
				send: options.send,
				collect: (dropped) => this.#collect(dropped),
				onError: (error) => log.error('a telemetry sample failed', { error }),
			},
			options.plan,
		);
		this.#probe?.start();
	}

	get dropped(): bigint {
		return this.#sampler.dropped;
	}

	get status(): TelemetryStatus {
		const probe = this.#probe;
		return {
			probe: probe?.state ?? 'no-hardware',
			gpus: this.#gpuCount,
			driver: probe?.driver?.driver ?? '',
			isSimulated: this.#isSimulated(),
			message: probe?.fault?.message ?? '',
			restarts: probe?.restarts ?? 0,
			misses: probe?.misses ?? 0,
			loopDelayMaxMs: this.#loopDelay.maxEverMs,
			historyBytes: this.#ring.bytes,
		};
	}

	setPlan(plan: Plan): void {
		this.#sampler.setPlan(plan);
	}

	answer(query: HistoryQuery): HistoryAnswer {
		return answerHistory(this.#ring, query, this.#isSimulated());
	}

	/** Says faults that are none, for the task of this id. */
	inject(injection: string, faults: readonly InjectedFault[], endsAtMs: number): void {
		for (const fault of faults) this.#facts.inject(injection, fault, endsAtMs);
	}

	/** Lets go of the driver until then (wall clock), or takes it again when that has passed. */
	async quiesce(untilMs: number): Promise<boolean> {
		if (untilMs > this.#options.clock.now()) return (await this.#probe?.quiesce(untilMs)) ?? true;
		this.#probe?.resume();
		return true;
	}

	/** In well under a second, whatever the driver does. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#sampler[Symbol.dispose]();
		this.#diskHealth[Symbol.dispose]();
		this.#xids[Symbol.dispose]();
		await this.#probe?.stop();
		this.#facts[Symbol.dispose]();
		this.#loopDelay[Symbol.dispose]();
	}

	#makeCollector(roots: FabricManagerRoots): Collector {
		const { clock, dataFolder, runningTasks } = this.#options;
		const sensors = new Sensors(roots.sysRoot);
		const probe = this.#probe;
		const fabricManager = probe === undefined ? undefined : new FabricManager(roots);
		return new Collector({
			clock,
			sampleHost: () => {
				const values = sampleHost({ ...roots, dataFolder, clock, sensors, runningTasks });
				values.set('agent.loop_delay', this.#takeLoopDelayMs() / 1000);
				values.set('ring.bytes', this.#ring.bytes);
				values.set('facts.suppressed', this.#facts.suppressed);
				const manager = fabricManager?.read(this.#isFabricSeen) ?? Number.NaN;
				this.#fabricManagerIs = manager;
				values.set('fabric_manager.running', manager === MANAGER.notNeeded ? Number.NaN : manager);
				return values;
			},
			sampleSlow: () => {
				this.#diskHealth.look();
				const disks = sampleDisks(roots, sensors, (device) => this.#diskHealth.of(device));
				return { ibPorts: sampleIbPorts(roots.sysRoot), disks };
			},
			probe:
				probe === undefined
					? undefined
					: {
							get state() {
								return probe.state;
							},
							get restarts() {
								return probe.restarts;
							},
							get misses() {
								return probe.misses;
							},
							get isSimulated() {
								return probe.driver?.isSimulated ?? false;
							},
							sample: (slow) => probe.sample(slow),
						},
			lastXid: (uuid) => this.#xids.lastXid(uuid),
			inventory: () => this.#inventory.shortDigest,
			findOwner: () => ownerFinder(roots.procRoot, this.#options.processOwners?.() ?? []),
		});
	}

	/** Loading and starting the agent is not what running it takes: the first is dropped. */
	#takeLoopDelayMs(): number {
		const maxMs = this.#loopDelay.takeMaxMs();
		if (!this.#hasSampled) this.#loopDelay.forget();
		this.#hasSampled = true;
		return maxMs;
	}

	async #collect(dropped: bigint): Promise<TelemetryFrame> {
		const collected = await this.#collector.collect(dropped);
		this.#observe(collected);
		return collected.frame;
	}

	#observe({ gpus, host, slow, parts, atMs, takenMs }: Collected): void {
		this.#ring.add(atMs, takenMs, parts);
		this.#hostWatch.observe(host, slow, takenMs);
		this.#hostWatch.observeFabricManager(this.#fabricManagerIs, takenMs);
		if (slow !== undefined) {
			this.#portRates.observe(portRateLevels(this.#sysRoot, slow.ibPorts));
			const hasAnswered = (device: string) => this.#diskHealth.hasAnswered(device);
			this.#diskHangs.observe(listDisks(this.#sysRoot), this.#diskHealth.hung, hasAnswered);
		}
		if (gpus !== undefined) {
			this.#gpuCount = gpus.gpus.length;
			reportAnswer(this.#facts);
			this.#xids.takeEvents(gpus.events);
			this.#gpuWatch.observe(gpus, takenMs);
			this.#observeFabric(gpus);
		}
		void this.#inventory
			.look(gpus?.isListChanged ?? false)
			.then(() => this.#watchXids())
			.catch((error: unknown) => this.#options.log.error('watching for XIDs failed', { error }));
	}

	#observeFabric(gpus: ProbeSample): void {
		if (gpus.slow === undefined) return;
		this.#isFabricSeen = gpus.slow.gpus.some(({ values }) => (values[FABRIC_STATE] ?? 0) > 0);
		const models = new Map(this.#inventory.current?.gpus.map(({ uuid, name }) => [uuid, name]));
		this.#nvlinkCounts.observe(nvlinkLevels(gpus, models));
	}

	/** Once the GPUs are known by their addresses, or can't be: XIDs from before are told with the GPU they are of. */
	#watchXids(): void {
		const inventory = this.#inventory.current;
		if (inventory === undefined) return;
		this.#xids.setGpus(inventory.gpus);
		if (this.#isXidWatched || this.#probe === undefined) return;
		this.#isXidWatched = true;
		this.#xids.start();
	}

	#isSimulated(): boolean {
		return this.#probe?.driver?.isSimulated ?? this.#inventory?.current?.simulated ?? false;
	}

	#setting(name: string): { readonly get: () => string | undefined; readonly put: (value: string) => void } {
		const { journal } = this.#options;
		return { get: () => journal.getSetting(name), put: (value) => journal.putSetting(name, value) };
	}

	#fact(fact: NonNullable<Parameters<typeof create<typeof FactSchema>>[1]>['fact'] & object): Fact {
		return create(FactSchema, { at: timestampFromMs(this.#options.clock.now()), fact });
	}
}

function uptimeMs(procRoot: string): number {
	try {
		return Number.parseFloat(readFileSync(`${procRoot}/uptime`, 'latin1')) * 1000;
	} catch {
		return 0;
	}
}
