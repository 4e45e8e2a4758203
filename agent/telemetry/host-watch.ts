import {
	HealthSource,
	HealthSubjectKind,
	HealthFactKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import { HOST_VALUES_2 } from '../../proto/telemetry-schema/host.ts';
import { IB_PORT_VALUES } from '../../proto/telemetry-schema/links.ts';
import { SMART } from '../probe/disk-health.ts';
import { MANAGER } from './fabric-manager.ts';
import type { HealthFacts } from './health-facts.ts';
import type { KeptCounters } from './kept-counters.ts';
import type { Part } from './part.ts';
import { type Watched, WatchedValues } from './watched-values.ts';

/** The same for the rest of the machine: InfiniBand ports, disks, host memory. */
const PORT: readonly Watched[] = [
	{ key: 'state', rule: 'state', well: [4], kind: Kind.IB_PORT_STATE, code: () => 'state' },
	{ key: 'physical_state', rule: 'state', well: [5], kind: Kind.IB_PORT_STATE, code: () => 'physical_state' },
	...IB_PORT_VALUES.filter(({ key }) => key.startsWith('errors.') && key !== 'errors.port_xmit_wait').map(
		({ key }): Watched => ({
			key,
			rule: 'counter',
			kind: Kind.IB_PORT_ERRORS,
			code: () => key.slice('errors.'.length),
		}),
	),
];

const SMART_WORDS: ReadonlyMap<number, string> = new Map([
	[SMART.read, 'SMART is read'],
	[SMART.asleep, 'the disk sleeps: SMART is as it was before'],
	[SMART.noProgram, 'SMART is not readable: smartctl is not installed (package smartmontools)'],
	[SMART.none, 'the disk, or what is before it, passes no SMART on'],
	[SMART.failed, 'SMART is not readable: asking for it failed (the log of the agent says why)'],
	[SMART.hung, 'the disk does not answer'],
]);

const DISK: readonly Watched[] = [
	{ key: 'critical_warning', rule: 'state', well: [0], kind: Kind.DISK, code: () => 'critical_warning' },
	{ key: 'live', rule: 'state', well: [1], kind: Kind.DISK, code: () => 'not_live' },
	{ key: 'media_errors', rule: 'counter', span: 'ever', kind: Kind.DISK, code: () => 'media_errors' },
	{ key: 'passed', rule: 'state', well: [1], kind: Kind.DISK, code: () => 'failing' },
	{ key: 'pending', rule: 'state', well: [0], kind: Kind.DISK, code: () => 'pending' },
	{ key: 'reallocated', rule: 'counter', span: 'ever', kind: Kind.DISK, code: () => 'reallocated' },
	// Sectors that are unreadable now: as with `pending`, some of them may be well again.
	{ key: 'uncorrectable', rule: 'state', well: [0], kind: Kind.DISK, code: () => 'uncorrectable' },
	{
		key: 'smart',
		rule: 'state',
		// That it does not answer is a fact of its own (disk-hang-watch.ts).
		well: [SMART.read, SMART.asleep, SMART.none, SMART.hung],
		kind: Kind.DISK,
		code: () => 'not_readable',
		words: (value) => SMART_WORDS.get(value) ?? `smart ${value}`,
	},
];

const HOST: readonly Watched[] = [
	{ key: 'memory.corrected', rule: 'counter', span: 'boot', kind: Kind.HOST_MEMORY, code: () => 'corrected' },
	{ key: 'memory.uncorrected', rule: 'counter', span: 'boot', kind: Kind.HOST_MEMORY, code: () => 'uncorrected' },
];

/** Beside the host's own: a sample has no value for "not needed any more", and a finding has to end with it. */
const FABRIC_MANAGER: readonly Watched[] = [
	{
		key: 'fabric_manager.running',
		rule: 'state',
		well: [MANAGER.runs, MANAGER.notNeeded],
		kind: Kind.FABRIC,
		code: () => 'manager',
		words: (value) => MANAGER_WORDS.get(value) ?? `fabric manager ${value}`,
	},
];
const MANAGER_WORDS: ReadonlyMap<number, string> = new Map([
	[MANAGER.down, 'the fabric manager does not run, and this host needs it'],
	[MANAGER.runs, 'the fabric manager runs'],
	[MANAGER.notNeeded, 'the fabric manager is not needed any more'],
]);
const MANAGER_VALUES = HOST_VALUES_2.filter(({ key }) => key === 'fabric_manager.running');

export class HostWatch {
	readonly #host: WatchedValues;
	readonly #ports: WatchedValues;
	readonly #disks: WatchedValues;
	readonly #manager: WatchedValues;

	/** Without `counters` each agent tells again what a counter shows. */
	constructor(facts: HealthFacts, counters?: KeptCounters) {
		const { NODE, NIC, DISK: DISK_SUBJECT } = HealthSubjectKind;
		this.#host = new WatchedValues(facts, HOST, HOST_VALUES_2, NODE, HealthSource.SYSFS, counters);
		this.#ports = new WatchedValues(facts, PORT, IB_PORT_VALUES, NIC, HealthSource.SYSFS);
		this.#disks = new WatchedValues(facts, DISK, DISK_VALUES, DISK_SUBJECT, HealthSource.SYSFS, counters);
		this.#manager = new WatchedValues(facts, FABRIC_MANAGER, MANAGER_VALUES, NODE, HealthSource.SYSFS);
	}

	observe(
		host: Float64Array,
		slow: { readonly ibPorts: readonly Part[]; readonly disks: readonly Part[] } | undefined,
		atMs: number,
	): void {
		this.#host.observe([{ id: '', index: 0, values: host }], atMs);
		if (slow === undefined) return;
		this.#ports.observe(slow.ibPorts, atMs);
		this.#disks.observe(slow.disks, atMs);
	}

	/** `state`: one of MANAGER; NaN: not known. */
	observeFabricManager(state: number, atMs: number): void {
		this.#manager.observe([{ id: '', index: 0, values: Float64Array.of(state) }], atMs);
	}
}
