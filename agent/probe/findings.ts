import type { ProcessEvidence } from './process-evidence.ts';

/** What the keeper learnt about the driver, for whoever makes health facts of it. */
export type ProbeFinding =
	| { readonly kind: 'slow'; readonly call: string; readonly waitedMs: number }
	| {
			readonly kind: 'hung';
			readonly call: string;
			readonly waitedMs: number;
			readonly evidence: ProcessEvidence;
			/** It was started by an agent before this one. */
			readonly isInherited: boolean;
	  }
	| { readonly kind: 'unavailable'; readonly code: string; readonly message: string }
	| { readonly kind: 'recovered'; readonly afterMs: number };

export type ProbeStateName =
	| 'starting'
	| 'running'
	| 'slow'
	| 'hung'
	| 'quiesced'
	| 'unavailable'
	| 'restarting'
	| 'stopped';

/** Code of the fault that koffi has no binary for this platform: no restart changes that. */
export const NO_KOFFI = 'koffi';
/** Code of the fault that the probe itself ends, before it measured anything. */
export const CRASHED = 'crashed';

export interface ProbeLimits {
	/** For a fast sample: all GPUs together take milliseconds. */
	readonly fastDeadlineMs: number;
	/** For opening the driver, an inventory, a slow sample: a driver without persistence loads itself first. */
	readonly slowDeadlineMs: number;
	/** Unanswered for this long is hung. */
	readonly hungAfterMs: number;
	/** So is one that was asked this often and answered none. */
	readonly missesMax: number;
	/** From SIGTERM to SIGKILL of one that hangs. */
	readonly killGraceMs: number;
	/** For closing the driver when somebody else needs it. */
	readonly quiesceMs: number;
	/** For closing the driver in order when the agent stops: its exit takes less than a second. */
	readonly byeMs: number;
	/** Between looks at a probe that does not die. */
	readonly watchMs: number;
	readonly backoffBaseMs: number;
	readonly backoffMaxMs: number;
	/** Probes in a row that ended by themselves and gave no sample: it can't be measured here. */
	readonly crashesMax: number;
	/** A probe that ran this long starts again without the backoff of those before it. */
	readonly stableMs: number;
}

export const PROBE_LIMITS_DEFAULT: ProbeLimits = Object.freeze({
	fastDeadlineMs: 2000,
	slowDeadlineMs: 10_000,
	hungAfterMs: 15_000,
	missesMax: 3,
	killGraceMs: 5000,
	quiesceMs: 10_000,
	byeMs: 400,
	watchMs: 1000,
	backoffBaseMs: 5000,
	backoffMaxMs: 300_000,
	crashesMax: 3,
	stableMs: 120_000,
});
