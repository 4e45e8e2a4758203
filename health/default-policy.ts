import type { FactRule, Outcome, PolicyDocument, XidClass } from './policy.ts';
import type { HealthAction } from './verdict.ts';

/**
 * The policy that ships. Sources: NVIDIA's XID catalogue of 2025-10-29 ("immediate action"), NVML's recovery action
 * (field 230), limits that DCGM, gpud, NVSentinel and Azure's node checks publish. It is data in the form that
 * `gpuaas health policy show --json` prints and `--policy FILE` takes.
 */
const S = 1000;
const MIN = 60 * S;
const HOUR = 60 * MIN;
const DAY = 24 * HOUR;

const RESET: readonly HealthAction[] = ['DRAIN', 'RESET_GPU'];
const REBOOT: readonly HealthAction[] = ['DRAIN', 'REBOOT_NODE'];
const FABRIC: readonly HealthAction[] = ['DRAIN', 'RESTART_FABRIC_MANAGER'];

const note: Outcome = { state: 'HEALTHY', severity: 'info', actions: ['NONE'], clears: [] };

function degraded(actions: readonly HealthAction[], clears: Outcome['clears'], schedulable = true): Outcome {
	return { state: 'DEGRADED', severity: 'warning', actions, clears, schedulable };
}

function unhealthy(actions: readonly HealthAction[], clears: Outcome['clears']): Outcome {
	return { state: 'UNHEALTHY', severity: 'critical', actions, clears };
}

function unknown(actions: readonly HealthAction[], clears: Outcome['clears']): Outcome {
	return { state: 'UNKNOWN', severity: 'warning', actions, clears };
}

/** As agents say it in the line of the fact. */
const BY_SIBLINGS = 'measured by its siblings alone';
const RESET_SEEN = ['boot', 'recovery_action', 'gpu_reset'] as const;

type Codes = { readonly codes: readonly (number | string)[] };
const XID_CLASSES: Readonly<Record<string, XidClass & Codes>> = {
	note: {
		...note,
		rank: 1,
		codes: [37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161],
	},
	// Follows the other XID of its incident; alone the fabric manager is restarted.
	follow: { ...degraded(['RESTART_FABRIC_MANAGER'], RESET_SEEN), rank: 2, codes: [45] },
	app: {
		...note,
		actions: ['RESTART_APP'],
		rank: 3,
		codes: [
			...[8, 11, 13, 25, 31, 32, '39-41', 60, '68-72', '75-77', 80, '82-86', 88, 89, 94],
			...['96-105', '126-135', 139],
		],
	},
	// The catalogue gives no action, or doesn't list the code.
	unlisted: {
		...degraded(['RUN_DIAG'], ['boot', 'diagnostic_passed']),
		rank: 4,
		codes: [
			...['1-7', 9, 10, 12, '14-24', '26-30', '33-36', 42, 47, '49-53', '55-59', 61, 65, 73, 81, 87, 90, 91],
			...[108, '111-118', '122-125', 138, '162-172'],
		],
	},
	check_uvm: { ...degraded(['RUN_DIAG'], ['boot', 'diagnostic_passed']), rank: 4, codes: [159] },
	software: { ...degraded(['RUN_DIAG'], ['boot', 'diagnostic_passed']), rank: 5, codes: [78] },
	// The driver's own action follows in field 230; until then nobody should get the GPU.
	driver_action: { ...degraded(['DRAIN'], RESET_SEEN, false), rank: 6, codes: [154] },
	nvlink: { ...unhealthy(RESET, RESET_SEEN), rank: 7, mildWhere: 'nonfatal', codes: [74, '144-150'] },
	reset: {
		...unhealthy(RESET, RESET_SEEN),
		rank: 8,
		codes: [46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158],
	},
	// After the reset the SRAM threshold decides (check sram.threshold): then field diagnostics.
	reset_then_sram: { ...unhealthy([...RESET, 'RUN_DIAG'], RESET_SEEN), rank: 9, codes: [48] },
	reboot: { ...unhealthy(REBOOT, ['boot']), rank: 10, codes: [79, 151] },
	support: { ...unhealthy(['DRAIN', 'INSPECT_HW'], ['diagnostic_passed']), rank: 11, codes: [54, 142] },
	reset_again: { ...unhealthy(REBOOT, ['boot']), rank: 12, codes: [] },
	hardware: { ...unhealthy(['DRAIN', 'INSPECT_HW'], ['diagnostic_passed']), rank: 13, codes: [] },
	two_tenants: { ...degraded(['RUN_DIAG'], ['diagnostic_passed'], false), rank: 14, codes: [] },
	silence: { ...unknown(['RUN_DIAG'], ['well']), rank: 15, codes: [] },
};

const GPU_FACTS: readonly FactRule[] = [
	{ check: 'gpu.lost', fact: 'GPU_LOST', ...unhealthy(REBOOT, ['boot', 'well']), endedBy: ['GPU_RETURNED'] },
	{
		check: 'gpu.reset_required',
		fact: 'GPU_LOST',
		code: 'nvml:16',
		...unhealthy(RESET, ['boot', 'well', 'gpu_reset']),
		endedBy: ['GPU_RETURNED'],
	},
	{ check: 'ecc.uncorrected', fact: 'ECC_UNCORRECTED', ...unhealthy(RESET, RESET_SEEN) },
	{
		check: 'ecc.storm',
		fact: 'ECC_CORRECTED_RATE',
		atLeast: 10,
		...degraded(['DRAIN', 'RUN_DIAG'], ['clean_load'], false),
	},
	{ check: 'remap.correctable', fact: 'ROW_REMAP', code: 'correctable', ...note },
	{ check: 'remap.uncorrectable', fact: 'ROW_REMAP', code: 'uncorrectable', ...note },
	{
		check: 'remap.exhausted',
		fact: 'ROW_REMAP',
		code: 'uncorrectable',
		atLeast: 512,
		...unhealthy(['DRAIN', 'RMA'], []),
	},
	{ check: 'remap.pending', fact: 'ROW_REMAP', code: 'pending', well: [0], ...unhealthy(RESET, ['well']) },
	{ check: 'remap.failure', fact: 'ROW_REMAP', code: 'failure', well: [0], ...unhealthy(['DRAIN', 'RMA'], ['well']) },
	{ check: 'sram.threshold', fact: 'SRAM_THRESHOLD', well: [0], ...unhealthy(['DRAIN', 'RUN_DIAG', 'RMA'], ['well']) },
	{ check: 'repair.pending', fact: 'REPAIR_PENDING', well: [0], ...degraded(RESET, ['well']) },
	{ check: 'mode.changed', fact: 'MODE_CHANGED', ...note },
	{
		check: 'memory.unrepairable',
		fact: 'MODE_CHANGED',
		code: 'memory_unrepairable',
		well: [0],
		...unhealthy(['DRAIN', 'RMA'], ['well']),
	},
	// At least 0.6 events a minute over 10 minutes.
	{
		check: 'slowdown',
		fact: 'SLOWDOWN',
		well: [0],
		repeat: { count: 6, withinMs: 10 * MIN },
		...degraded(['INSPECT_HW'], ['clean_load']),
	},
];

const FABRIC_FACTS: readonly FactRule[] = [
	{ check: 'fabric.state', fact: 'FABRIC', code: 'state', well: [0, 3], ...unhealthy(FABRIC, ['well']) },
	{ check: 'fabric.health', fact: 'FABRIC', code: 'health', well: [0, 1], ...unhealthy(FABRIC, ['well']) },
	{
		check: 'fabric.limited',
		fact: 'FABRIC',
		code: 'health',
		after: [3],
		well: [0, 1],
		...degraded(FABRIC, ['well'], false),
	},
	{
		check: 'fabric.misconfiguration',
		fact: 'FABRIC',
		code: 'misconfiguration',
		well: [0, 1],
		...unhealthy([...FABRIC, 'INSPECT_HW'], ['well']),
	},
	{ check: 'fabric.status', fact: 'FABRIC', code: 'status', well: [0], ...unhealthy(FABRIC, ['well']) },
	{
		check: 'fabric.bandwidth',
		fact: 'FABRIC',
		code: 'degraded_bandwidth',
		well: [0, 2],
		...degraded(FABRIC, ['well'], false),
	},
	// The driver is at it; what it doesn't mend becomes "unhealthy".
	{ check: 'fabric.recovery', fact: 'FABRIC', code: 'route_recovery', well: [0, 2], ...degraded(['NONE'], ['well']) },
	{ check: 'fabric.route', fact: 'FABRIC', code: 'route_unhealthy', well: [0, 2], ...unhealthy(FABRIC, ['well']) },
	{ check: 'fabric.access', fact: 'FABRIC', code: 'access_timeout', well: [0, 2], ...unhealthy(FABRIC, ['well']) },
	// An upgrade restarts it; programs that run go on without it for a while.
	{
		check: 'fabric.manager',
		fact: 'FABRIC',
		code: 'manager',
		// It runs, or isn't needed any more.
		well: [1, 2],
		...degraded(['RESTART_FABRIC_MANAGER'], ['well'], false),
		worsens: { afterMs: 5 * MIN, actions: FABRIC },
	},
	{
		check: 'sxid',
		fact: 'SXID',
		mildWhere: 'non-fatal',
		...unhealthy(['DRAIN', 'REBOOT_NODE'], ['boot']),
	},
	{ check: 'nvlink.down', fact: 'NVLINK_STATE', well: [1], ...unhealthy(RESET, ['well']) },
	// A model that isn't listed is measured by what it had; what its siblings have is a note: cards without a bridge are none.
	{
		check: 'nvlink.count',
		fact: 'NVLINK_COUNT',
		expected: { 'NVIDIA A100-SXM4-*': 12, 'NVIDIA H100 * HBM3': 18, 'NVIDIA H200': 18, 'NVIDIA B200': 18 },
		mildWhere: BY_SIBLINGS,
		...unhealthy(RESET, ['well']),
	},
	{ check: 'nvlink.errors', fact: 'NVLINK_ERRORS', ...note },
	...['replay', 'recovery', 'recovery_failed'].map(
		(code): FactRule => ({
			check: `nvlink.${code}`,
			fact: 'NVLINK_ERRORS',
			code,
			...degraded(RESET, RESET_SEEN, false),
		}),
	),
	// gpud: a port is broken when it was down for 4 minutes.
	{
		check: 'ib.port',
		fact: 'IB_PORT_STATE',
		code: 'state',
		well: [4],
		...degraded(['INSPECT_HW'], ['well'], false),
		worsens: { afterMs: 4 * MIN, actions: ['DRAIN', 'INSPECT_HW'] },
	},
	{
		check: 'ib.physical',
		fact: 'IB_PORT_STATE',
		code: 'physical_state',
		well: [5],
		...degraded(['INSPECT_HW'], ['well'], false),
	},
	// 200 of 400 Gb/s: by board in `expected` where that is known, else by what the port had. Ports of one board may be meant
	// to differ (storage beside compute): what its siblings run at is a note.
	{
		check: 'ib.rate',
		fact: 'IB_PORT_RATE',
		expected: {},
		mildWhere: BY_SIBLINGS,
		...degraded(['INSPECT_HW'], ['well'], false),
	},
	{ check: 'ib.errors', fact: 'IB_PORT_ERRORS', ...note },
	{
		check: 'ib.flaps',
		fact: 'IB_PORT_ERRORS',
		code: 'link_downed',
		repeat: { count: 3, withinMs: DAY },
		...degraded(['INSPECT_HW'], ['boot', 'diagnostic_passed'], false),
	},
];

const NODE_FACTS: readonly FactRule[] = [
	{ check: 'probe.slow', fact: 'PROBE_SLOW', endedBy: ['PROBE_RECOVERED'], ...degraded(['NONE'], ['well', 'boot']) },
	{
		check: 'probe.hung',
		fact: 'PROBE_HUNG',
		endedBy: ['PROBE_RECOVERED'],
		...unknown(['RUN_DIAG'], ['well', 'boot']),
		worsens: { afterMs: 5 * MIN, actions: REBOOT },
	},
	{
		check: 'probe.unavailable',
		fact: 'PROBE_UNAVAILABLE',
		endedBy: ['PROBE_RECOVERED'],
		...unknown(['RUN_DIAG'], ['well', 'boot']),
	},
	// The driver was upgraded under its library.
	{
		check: 'driver.mismatch',
		fact: 'PROBE_UNAVAILABLE',
		code: 'nvml:18',
		endedBy: ['PROBE_RECOVERED'],
		...unknown(REBOOT, ['well', 'boot']),
	},
	{ check: 'kmsg.unavailable', fact: 'KMSG_UNAVAILABLE', ...note },
	{ check: 'kmsg.lost', fact: 'KMSG_LOST', ...note },
	{ check: 'disk.warning', fact: 'DISK', ...degraded(['INSPECT_HW'], ['diagnostic_passed']) },
	{
		check: 'disk.critical_warning',
		fact: 'DISK',
		code: 'critical_warning',
		well: [0],
		...degraded(['INSPECT_HW'], ['well']),
	},
	// It foretells its own end.
	{
		check: 'disk.failing',
		fact: 'DISK',
		code: 'failing',
		well: [1],
		...degraded(['DRAIN', 'INSPECT_HW'], ['well'], false),
	},
	{ check: 'disk.pending', fact: 'DISK', code: 'pending', well: [0], ...degraded(['INSPECT_HW'], ['well']) },
	{
		check: 'disk.uncorrectable',
		fact: 'DISK',
		code: 'uncorrectable',
		well: [0],
		...degraded(['INSPECT_HW'], ['well']),
	},
	{ check: 'disk.reallocated', fact: 'DISK', code: 'reallocated', ...note },
	{ check: 'disk.not_readable', fact: 'DISK', code: 'not_readable', well: [1, 2, 4, 6], ...note },
	{ check: 'disk.hung', fact: 'DISK', code: 'hung', well: [0], ...unknown(['DRAIN', 'INSPECT_HW'], ['well', 'boot']) },
	{ check: 'disk.gone', fact: 'DISK', code: 'not_live', well: [1], ...unhealthy(['DRAIN', 'INSPECT_HW'], ['well']) },
	{ check: 'memory.corrected', fact: 'HOST_MEMORY', code: 'corrected', ...note },
	{
		check: 'memory.uncorrected',
		fact: 'HOST_MEMORY',
		code: 'uncorrected',
		...unhealthy(['DRAIN', 'RUN_DIAG', 'INSPECT_HW'], ['diagnostic_passed']),
	},
];

export const DEFAULT_POLICY: PolicyDocument = {
	version: '2026-11-27.1',
	source: 'NVIDIA XID catalogue 2025-10-29; NVML 13.3 field 230; limits of DCGM 4.6, gpud 0.13, NVSentinel, Azure NHC',
	thresholds: {
		periodMs: 15 * S,
		slowEvery: 4,
		silencePeriods: 3,
		burstMs: 3 * MIN,
		noteMs: DAY,
		resetAgainMs: DAY,
		rebootsMax: 2,
		rebootsWithinMs: 3 * DAY,
		tenants: 2,
		tenantsWithinMs: 3 * DAY,
		loadRatio: 0.5,
		loadCleanMs: 10 * MIN,
	},
	xidClasses: XID_CLASSES,
	recoveryActions: {
		1: unhealthy(RESET, RESET_SEEN),
		2: unhealthy(REBOOT, ['boot', 'recovery_action']),
		3: unhealthy(['DRAIN'], RESET_SEEN),
		4: unhealthy(RESET, RESET_SEEN),
		5: unhealthy(FABRIC, ['boot', 'recovery_action']),
	},
	facts: [...GPU_FACTS, ...FABRIC_FACTS, ...NODE_FACTS],
	rates: [
		// 10 a second; field reports had 17,700 a second under load, uncorrected 0, and every tool said healthy.
		{
			check: 'ecc.storm',
			part: 'gpu',
			key: 'ecc.volatile.corrected',
			max: 600,
			windowMs: MIN,
			...degraded(['DRAIN', 'RUN_DIAG'], ['clean_load'], false),
		},
		// DCGM: 100 a second fail.
		{
			check: 'nvlink.crc',
			part: 'nvlink',
			key: 'errors.crc',
			max: 6000,
			windowMs: MIN,
			...unhealthy(RESET, RESET_SEEN),
		},
		// NVSentinel: 10 a second degraded, 120 an hour fatal.
		{
			check: 'ib.symbol_errors',
			part: 'nic',
			key: 'errors.symbol_error',
			max: 120,
			windowMs: HOUR,
			...unhealthy(['DRAIN', 'INSPECT_HW'], ['diagnostic_passed']),
		},
	],
	fleets: {},
};
