/**
 * What the health engine says of one thing: the schema that gates, pages, alerts and the CLI share. Words and their order
 * are part of the contract: the arrays go from the mildest to the severest, and actions are given in the order in which
 * they are to be done.
 */
export const STATES = ['HEALTHY', 'DEGRADED', 'UNKNOWN', 'UNHEALTHY'] as const;
export type HealthState = (typeof STATES)[number];

export const ACTIONS = [
	'NONE',
	'RESTART_APP',
	'DRAIN',
	'RESET_GPU',
	'RESTART_FABRIC_MANAGER',
	'REBOOT_NODE',
	'POWER_CYCLE',
	'RUN_DIAG',
	'INSPECT_HW',
	'RMA',
] as const;
export type HealthAction = (typeof ACTIONS)[number];

export const SEVERITIES = ['info', 'warning', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** What can end a finding. Silence is not among them. */
export const CLEARINGS = [
	/** Another boot id. */
	'boot',
	/** The driver's recovery action went back to 0. */
	'recovery_action',
	/** The source that said "bad" says "well". */
	'well',
	/** Under load for `loadCleanMs` without its coming back. */
	'clean_load',
	'gpu_reset',
	'diagnostic_passed',
	/** Somebody worked on the hardware; ends everything that is open. */
	'serviced',
] as const;
export type Clearing = (typeof CLEARINGS)[number];

export type SubjectKind = 'node' | 'gpu' | 'slice' | 'nic' | 'nvlink';

export interface Subject {
	readonly kind: SubjectKind;
	/** GPU, slice: UUID. NVLink: UUID of its GPU. NIC: device. Node: empty. */
	readonly id: string;
	/** NVLink: number of the link. NIC: number of the port. Else 0. */
	readonly index: number;
	/** Slice: UUID of the GPU that it is part of. */
	readonly gpu?: string;
}

export const NODE: Subject = Object.freeze({ kind: 'node', id: '', index: 0 });

/** Who controlled the node when something was heard (design 02): what isn't `platform` decides nothing. */
export type Custody = 'platform' | 'tenant' | 'transit';

export interface Reason {
	readonly checkId: string;
	/** "xid:79"; empty where the check says it all. */
	readonly code: string;
	readonly severity: Severity;
	readonly policyVersion: string;
	/** It came from a test double or an injected fault. */
	readonly simulated: boolean;
	/** ms since the Unix epoch: first and newest. */
	readonly sinceMs: number;
	readonly lastMs: number;
}

export interface Evidence {
	/** `peer`: neither the kernel nor the driver, but a process: the agent of its probe, the control plane of silence. */
	readonly source: 'kmsg' | 'nvml' | 'sysfs' | 'peer';
	readonly raw: string;
	/** ms since the Unix epoch. */
	readonly observedAtMs: number;
	readonly bootId: string;
}

export interface Verdict {
	readonly subject: Subject;
	readonly state: HealthState;
	/** What it would be without what came from a test double or an injected fault. */
	readonly realState: HealthState;
	/** May be given to somebody. Made from what was heard in platform custody alone, in every verdict. */
	readonly schedulable: boolean;
	/** In the order in which they are to be done; never only NONE where the state is UNHEALTHY. */
	readonly actions: readonly HealthAction[];
	/** Severest first. */
	readonly reasons: readonly Reason[];
	/** Oldest first. */
	readonly evidence: readonly Evidence[];
	readonly sinceMs: number;
	/** How long it holds if nothing more is heard. */
	readonly ttlMs: number;
	/** `inferred`: from silence, time or history rather than from what was said. */
	readonly confidence: 'observed' | 'inferred';
	/** What ended the newest finding that was ended; null: none was. */
	readonly clearedBy: Clearing | null;
	readonly clearedAtMs: number | null;
	readonly policyVersion: string;
	/** Of the facts that it was made from. */
	readonly custody: Custody;
	/** It would be another without a test double or an injected fault: said wherever it is shown. */
	readonly simulated: boolean;
	/** The thing itself answers by a test double of the driver. */
	readonly isDouble: boolean;
}

export function subjectKey({ kind, id, index }: Pick<Subject, 'kind' | 'id' | 'index'>): string {
	return `${kind}/${id}/${index}`;
}

export function severestState(states: Iterable<HealthState>): HealthState {
	let rank = 0;
	for (const state of states) rank = Math.max(rank, STATES.indexOf(state));
	return STATES[rank] ?? 'HEALTHY';
}

/** In order, each once; what a stronger one includes is left out, and NONE where there is another. */
export function orderedActions(actions: Iterable<HealthAction>): readonly HealthAction[] {
	const wanted = new Set(actions);
	if (wanted.has('POWER_CYCLE')) wanted.delete('REBOOT_NODE');
	if (wanted.has('POWER_CYCLE') || wanted.has('REBOOT_NODE')) {
		wanted.delete('RESET_GPU');
		wanted.delete('RESTART_FABRIC_MANAGER');
	}
	if (wanted.size > 1) wanted.delete('NONE');
	if (wanted.size === 0) wanted.add('NONE');
	return ACTIONS.filter((action) => wanted.has(action));
}
