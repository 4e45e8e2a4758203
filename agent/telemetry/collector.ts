import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Clock } from '../../kit/clock.ts';
import {
	ProbeState,
	type TelemetryFrame,
	TelemetryFrameSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { CURRENT_SCHEMA, SCHEMA_NUMBER, type TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import type { ProbeStateName } from '../probe/findings.ts';
import type { ProbeCost, ProbeSample } from '../probe/protocol.ts';
import type { Part } from './part.ts';
import type { Values } from './proc-files.ts';
import type { ownerFinder } from './process-owners.ts';
import { positions } from './watched-values.ts';

/**
 * Makes one frame: the host's values at once, the GPUs' as the probe answers, the slow parts every fourth time. A probe
 * that doesn't answer in time leaves the GPUs out; it never holds back the rest.
 */
export interface CollectorOptions {
	readonly clock: Clock;
	readonly sampleHost: () => Values;
	/** Ports and disks. */
	readonly sampleSlow: () => { readonly ibPorts: readonly Part[]; readonly disks: readonly Part[] };
	/** Undefined: no NVIDIA hardware here. */
	readonly probe: ProbeSource | undefined;
	readonly lastXid: (uuid: string) => number;
	/** Whose processes are on the GPUs. Asked only where they are reported. */
	readonly findOwner: () => ReturnType<typeof ownerFinder>;
	/** First digits of the inventory's digest. */
	readonly inventory: () => string;
}

export interface ProbeSource {
	readonly state: ProbeStateName;
	readonly restarts: number;
	readonly misses: number;
	readonly isSimulated: boolean;
	sample(slow: boolean): Promise<ProbeSample | undefined>;
}

export interface Collected {
	readonly frame: TelemetryFrame;
	readonly parts: ReadonlyMap<TelemetryPart, readonly Part[]>;
	readonly host: Float64Array;
	readonly gpus: ProbeSample | undefined;
	readonly slow: { readonly ibPorts: readonly Part[]; readonly disks: readonly Part[] } | undefined;
	/** Wall and monotonic clock. */
	readonly atMs: number;
	readonly takenMs: number;
}

/** One frame in so many has the slow parts, and the first. */
const SLOW_EVERY = 4;
/** What a frame takes. */
const PROCESSES_MAX = 256;

const XID = positions(GPU_VALUES).get('xid.last') ?? 0;

const STATES: Readonly<Record<ProbeStateName, ProbeState>> = {
	starting: ProbeState.STARTING,
	running: ProbeState.RUNNING,
	slow: ProbeState.SLOW,
	hung: ProbeState.HUNG,
	quiesced: ProbeState.QUIESCED,
	unavailable: ProbeState.UNAVAILABLE,
	restarting: ProbeState.RESTARTING,
	stopped: ProbeState.QUIESCED,
};

export class Collector {
	readonly #options: CollectorOptions;
	#count = 0;
	/** A slow sample that the probe did not give is asked for again. */
	#isSlowOwed = false;
	#cost: ProbeCost | undefined;
	/** On the monotonic clock: when the probe gave its newest sample. */
	#answeredAtMs: number | undefined;

	constructor(options: CollectorOptions) {
		this.#options = options;
	}

	/** Never rejects. `dropped`: frames that were never sent. */
	async collect(dropped: bigint): Promise<Collected> {
		const { clock, probe, sampleHost, sampleSlow } = this.#options;
		const isSlow = this.#count % SLOW_EVERY === 0 || this.#isSlowOwed;
		this.#count += 1;
		const atMs = clock.now();
		const takenMs = clock.monotonic();
		const sampling = probe?.sample(isSlow);
		const values = sampleHost();
		const slow = isSlow ? sampleSlow() : undefined;
		const gpus = await sampling;
		this.#isSlowOwed = isSlow && probe !== undefined && gpus === undefined;
		if (gpus !== undefined) {
			this.#cost = gpus.cost;
			this.#answeredAtMs = clock.monotonic();
			for (const { id, values: row } of gpus.gpus) if (row[0] === 0) row[XID] = this.#options.lastXid(id);
		}
		this.#addProbe(values);
		const host = Float64Array.from(CURRENT_SCHEMA.host, ({ key }) => values.get(key) ?? Number.NaN);
		const parts = partsOf(host, gpus, slow);
		const frame = create(TelemetryFrameSchema, {
			...this.#frame(atMs, dropped, isSlow),
			...rows(parts),
			...this.#processes(gpus?.slow?.processes),
		});
		return { frame, parts, host, gpus, slow, atMs, takenMs };
	}

	#frame(atMs: number, dropped: bigint, hasSlow: boolean) {
		const { probe, inventory } = this.#options;
		return {
			schema: SCHEMA_NUMBER,
			at: timestampFromMs(atMs),
			dropped,
			hasSlow,
			probe: probe === undefined ? ProbeState.NO_HARDWARE : STATES[probe.state],
			simulated: probe?.isSimulated ?? false,
			inventory: inventory(),
		};
	}

	#processes(found: NonNullable<ProbeSample['slow']>['processes']) {
		if (found === undefined || found.processes.length === 0) return {};
		const findOwner = this.#options.findOwner();
		return {
			gpuProcesses: found.processes.slice(0, PROCESSES_MAX).map((process) => {
				const { id: gpu, pid, memoryBytes, sm } = process;
				const owner = findOwner(process);
				return {
					...{ gpu, pid },
					...(Number.isNaN(memoryBytes) ? {} : { memoryBytes }),
					...(Number.isNaN(sm) ? {} : { smUtilisation: sm }),
					...(owner === undefined ? {} : owner.kind === 'task' ? { taskId: owner.id } : { terminalId: owner.id }),
				};
			}),
			gpuProcessesLeftOut: found.leftOut + Math.max(0, found.processes.length - PROCESSES_MAX),
		};
	}

	#addProbe(values: Values): void {
		const { probe, clock } = this.#options;
		values.set('probe.state', probe === undefined ? ProbeState.NO_HARDWARE : STATES[probe.state]);
		if (probe === undefined) return;
		values.set('probe.restarts', probe.restarts);
		values.set('probe.misses', probe.misses);
		if (this.#cost === undefined || this.#answeredAtMs === undefined) return;
		values.set('probe.rss', this.#cost.rssBytes);
		values.set('probe.cpu', this.#cost.cpuSeconds);
		values.set('probe.sample', this.#cost.sampleMs / 1000);
		values.set('probe.call_max', this.#cost.callMaxMs / 1000);
		values.set('probe.age', (clock.monotonic() - this.#answeredAtMs) / 1000);
	}
}

function partsOf(
	host: Float64Array,
	gpus: ProbeSample | undefined,
	slow: Collected['slow'],
): ReadonlyMap<TelemetryPart, readonly Part[]> {
	return new Map<TelemetryPart, readonly Part[]>([
		['host', [{ id: '', index: 0, values: host }]],
		['gpu', gpus?.gpus ?? []],
		['slice', gpus?.slices ?? []],
		['gpuSlow', gpus?.slow?.gpus ?? []],
		['nvlink', gpus?.slow?.nvlinks ?? []],
		['ibPort', slow?.ibPorts ?? []],
		['disk', slow?.disks ?? []],
	]);
}

function rows(parts: ReadonlyMap<TelemetryPart, readonly Part[]>) {
	const of = (part: TelemetryPart, isIndexed = false) =>
		(parts.get(part) ?? []).map(({ id, index, values }) => ({ id, index: isIndexed ? index : 0, values: [...values] }));
	return {
		values: of('host')[0]?.values ?? [],
		gpus: of('gpu'),
		slices: of('slice'),
		gpusSlow: of('gpuSlow'),
		nvlinks: of('nvlink', true),
		ibPorts: of('ibPort', true),
		disks: of('disk'),
	};
}
