import type { Clearing, Custody, Evidence, Subject } from './verdict.ts';

/**
 * What the engine is told. Times are ms since the Unix epoch: `atMs` on the clock of whoever judges, which never goes
 * back for one engine; `observedAtMs` on the node's clock, believed up to `atMs`.
 */
export interface Heard {
	readonly atMs: number;
	/** Of the node at receipt; whatever is not `platform` has a ledger of its own. */
	readonly custody: Custody;
	readonly simulated: boolean;
	/** Empty: not said. */
	readonly bootId: string;
}

/** A HealthFact of the agent (proto/gpuaas/telemetry/v1). */
export interface HealthObservation extends Heard {
	readonly kind: 'fact';
	/** HealthFactKind without its prefix: XID, ROW_REMAP. */
	readonly fact: string;
	readonly subject: Subject;
	readonly code: string;
	/** Which of several things of the subject: a disk of a node. Else empty. */
	readonly part: string;
	readonly source: Evidence['source'];
	readonly raw: string;
	readonly observedAtMs: number;
	readonly before: number;
	readonly after: number;
	/** At least 1. */
	readonly count: number;
	/** A state that lasts, said again. */
	readonly isOngoing: boolean;
	/** Who held the GPU, where somebody did: for faults that are a program's until they come from two. */
	readonly tenant?: string;
	/** It was injected, to see what happens: nothing of it touches what is real, and at `endsAtMs` it is over. */
	readonly injection?: { readonly id: string; readonly endsAtMs: number };
}

/** Values of one period, of the things that were measured in it. */
export interface SampleObservation extends Heard {
	readonly kind: 'sample';
	readonly parts: readonly {
		readonly subject: Subject;
		/** By the keys of proto/telemetry-schema; absent and NaN are "not known". */
		readonly values: Readonly<Record<string, number>>;
	}[];
}

/** Something that the platform did or saw itself, and that may end findings. */
export interface ClearingObservation extends Heard {
	readonly kind: 'clearing';
	readonly subject: Subject;
	readonly clearing: Extract<Clearing, 'gpu_reset' | 'diagnostic_passed' | 'serviced'>;
	/** When what shows it began: it says nothing of what came later. Default: now. */
	readonly shownAtMs?: number;
}

/**
 * The platform took it away: a slice by a MIG change, a GPU with its links by a repair. It has no verdict any more. Never
 * for what an inventory merely lacks: a GPU that is missing is a finding.
 */
export interface RemovedObservation extends Heard {
	readonly kind: 'removed';
	readonly subject: Subject;
}

/** A session of the node was opened: the boot that it is in. */
export interface SessionObservation extends Heard {
	readonly kind: 'session';
}

/** The platform gave the node to somebody, or took it back. Meanwhile it is no silence that nothing is heard as ours. */
export interface CustodyObservation {
	readonly kind: 'custody';
	readonly atMs: number;
	readonly held: Custody;
}

/** Nothing was heard: time passes. */
export interface TimePassed {
	readonly kind: 'time';
	readonly atMs: number;
}

export type Observation =
	| HealthObservation
	| SampleObservation
	| ClearingObservation
	| RemovedObservation
	| SessionObservation
	| CustodyObservation
	| TimePassed;
