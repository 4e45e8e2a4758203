import {
	HealthSource,
	HealthSubjectKind,
	HealthFactKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { GPU_SLOW_VALUES } from '../../proto/telemetry-schema/gpu-slow.ts';
import { NVLINK_VALUES } from '../../proto/telemetry-schema/links.ts';
import type { ProbeSample } from '../probe/protocol.ts';
import type { HealthFacts } from './health-facts.ts';
import type { Part } from './part.ts';
import { positions, type Watched, WatchedValues } from './watched-values.ts';

/**
 * Makes facts of what changed between two samples of the GPUs: states that turned bad (or well again), counters that
 * rose. What is bad already when the agent starts is a fact too, marked as ongoing. It judges nothing: how bad it is, the
 * policy of the control plane decides.
 */
const GPU: readonly Watched[] = [
	{
		key: 'recovery_action',
		rule: 'state',
		well: [0],
		kind: Kind.RECOVERY_ACTION,
		code: (value) => `recovery_action:${value}`,
	},
	{ key: 'ecc.volatile.uncorrected', rule: 'counter', kind: Kind.ECC_UNCORRECTED, code: () => '' },
	{ key: 'ecc.volatile.corrected', rule: 'rate', kind: Kind.ECC_CORRECTED_RATE, code: () => '' },
	{ key: 'remapped.correctable', rule: 'counter', kind: Kind.ROW_REMAP, code: () => 'correctable' },
	{ key: 'remapped.uncorrectable', rule: 'counter', kind: Kind.ROW_REMAP, code: () => 'uncorrectable' },
	{ key: 'remap.pending', rule: 'state', well: [0], kind: Kind.ROW_REMAP, code: () => 'pending' },
	{ key: 'remap.failure', rule: 'state', well: [0], kind: Kind.ROW_REMAP, code: () => 'failure' },
	...(
		[
			['hw_slowdown', 0x08],
			['hw_thermal', 0x40],
			['power_brake', 0x80],
		] as const
	).map(
		([code, bit]): Watched => ({
			key: 'throttle.reasons',
			rule: 'state',
			well: [0],
			bit,
			kind: Kind.SLOWDOWN,
			code: () => code,
		}),
	),
];

const GPU_SLOW: readonly Watched[] = [
	// 0: this GPU has no fabric; 3: registration completed.
	{ key: 'fabric.state', rule: 'state', well: [0, 3], kind: Kind.FABRIC, code: () => 'state' },
	{ key: 'fabric.health', rule: 'state', well: [0, 1], kind: Kind.FABRIC, code: () => 'health' },
	{ key: 'fabric.misconfiguration', rule: 'state', well: [0, 1], kind: Kind.FABRIC, code: () => 'misconfiguration' },
	{ key: 'fabric.status', rule: 'state', well: [0], kind: Kind.FABRIC, code: () => 'status' },
	// 0: not supported, 1: yes, 2: no.
	...['degraded_bandwidth', 'route_recovery', 'route_unhealthy', 'access_timeout'].map(
		(fault): Watched => ({
			key: `fabric.${fault}`,
			rule: 'state',
			well: [0, 2],
			kind: Kind.FABRIC,
			code: () => fault,
		}),
	),
	{ key: 'sram.threshold', rule: 'state', well: [0], kind: Kind.SRAM_THRESHOLD, code: () => '' },
	{ key: 'retired.pending', rule: 'state', well: [0], kind: Kind.REPAIR_PENDING, code: () => 'page_retirement' },
	{ key: 'repair.channel_pending', rule: 'state', well: [0], kind: Kind.REPAIR_PENDING, code: () => 'channel' },
	{ key: 'repair.tpc_pending', rule: 'state', well: [0], kind: Kind.REPAIR_PENDING, code: () => 'tpc' },
	{ key: 'memory.unrepairable', rule: 'state', well: [0], kind: Kind.MODE_CHANGED, code: () => 'memory_unrepairable' },
	{ key: 'ecc.enabled', rule: 'change', kind: Kind.MODE_CHANGED, code: () => 'ecc_mode' },
	{ key: 'mig.enabled', rule: 'change', kind: Kind.MODE_CHANGED, code: () => 'mig_mode' },
];

const NVLINK: readonly Watched[] = [
	// A card without bridges has links that nobody ever saw up: how many should be is judged by the number (levels.ts).
	{ key: 'up', rule: 'state', well: [1], kind: Kind.NVLINK_STATE, code: () => '', isQuietAtFirst: true },
	...NVLINK_VALUES.filter(
		({ key }) => key.startsWith('errors.') && !/effective|symbol|recovery_succeeded/.test(key),
	).map(
		({ key }): Watched => ({ key, rule: 'counter', kind: Kind.NVLINK_ERRORS, code: () => key.slice('errors.'.length) }),
	),
];

const STATUS = positions(GPU_VALUES).get('nvml.status') ?? 0;

export class GpuWatch {
	readonly #facts: HealthFacts;
	readonly #gpus: WatchedValues;
	readonly #slow: WatchedValues;
	readonly #nvlinks: WatchedValues;
	/** GPUs that answered once, and what they answered last: 0 well. */
	readonly #status = new Map<string, number>();
	/** GPUs that this process has looked at. */
	readonly #seen = new Set<string>();

	constructor(facts: HealthFacts) {
		this.#facts = facts;
		this.#gpus = new WatchedValues(facts, GPU, GPU_VALUES, HealthSubjectKind.GPU, HealthSource.NVML);
		this.#slow = new WatchedValues(facts, GPU_SLOW, GPU_SLOW_VALUES, HealthSubjectKind.GPU, HealthSource.NVML);
		this.#nvlinks = new WatchedValues(facts, NVLINK, NVLINK_VALUES, HealthSubjectKind.NVLINK, HealthSource.NVML);
	}

	/** GPUs that this host had when its agent ran before: one that is not listed now is missing. */
	expect(uuids: readonly string[]): void {
		for (const uuid of uuids) if (!this.#status.has(uuid)) this.#status.set(uuid, 0);
	}

	/** The host has no NVIDIA hardware at all, so there is no probe that could miss one: all that were expected are. */
	observeNone(): void {
		for (const uuid of [...this.#status.keys()]) this.#statusIs(uuid, MISSING);
	}

	observe(sample: ProbeSample, atMs: number): void {
		const there = new Map(sample.gpus.map((gpu) => [gpu.id, gpu.values[STATUS] ?? 0]));
		for (const [uuid, status] of there) this.#statusIs(uuid, status);
		for (const uuid of this.#status.keys()) if (!there.has(uuid)) this.#statusIs(uuid, MISSING);
		const well = (parts: readonly Part[]) => parts.filter(({ id }) => this.#status.get(id) === 0);
		this.#gpus.observe(well(sample.gpus), atMs);
		if (sample.slow === undefined) return;
		this.#slow.observe(well(sample.slow.gpus), atMs);
		this.#nvlinks.observe(well(sample.slow.nvlinks), atMs);
	}

	#statusIs(uuid: string, status: number): void {
		const name = `gpu/${uuid}/nvml.status`;
		const isFirst = !this.#seen.has(uuid);
		this.#seen.add(uuid);
		const isBack = isFirst && status === 0 && this.#facts.wasBad(name);
		const before = isBack ? LOST_BEFORE : (this.#status.get(uuid) ?? 0);
		this.#status.set(uuid, status);
		if (before === status) return;
		this.#facts.report({
			kind: status === 0 ? Kind.GPU_RETURNED : Kind.GPU_LOST,
			subject: { kind: HealthSubjectKind.GPU, id: uuid },
			source: HealthSource.NVML,
			code: status === 0 ? '' : status === MISSING ? 'missing' : `nvml:${status}`,
			before: Math.max(0, before),
			after: Math.max(0, status),
			state: { name, isBad: status !== 0 },
		});
	}
}

/** Not among NVML's codes. */
const MISSING = -1;
/** An agent before this one said that the GPU was lost. */
const LOST_BEFORE = 15;
