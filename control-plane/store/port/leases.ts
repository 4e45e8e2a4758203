import type { Plan } from './unit.ts';

/**
 * Who does a job that only one replica may do at a time (the audit sequencer). Times come from `Store.now`. Not for
 * node sessions: those are fenced by epoch.
 */
export interface Leases {
	/** Takes or renews `name` for `holder`; false while somebody else's lease runs. */
	acquire(name: string, holder: string, nowMs: number, untilMs: number): Plan<boolean>;
	/** Gives it back if `holder` has it. */
	release(name: string, holder: string): Plan<void>;
}
