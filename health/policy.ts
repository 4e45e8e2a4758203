import type { Clearing, HealthAction, HealthState, Severity } from './verdict.ts';

/**
 * What facts mean: data, versioned, with its sources; the engine has no opinion of its own. The form in which it is
 * written (JSON) is `PolicyDocument`; `parsePolicy` checks it, `forFleet` applies one fleet's overrides.
 */
export interface Outcome {
	/** HEALTHY: a note, which holds no state and is forgotten after `noteMs`. */
	readonly state: HealthState;
	readonly severity: Severity;
	readonly actions: readonly HealthAction[];
	/** What ends it, beside `serviced`. */
	readonly clears: readonly Clearing[];
	/** Of DEGRADED: false keeps it from being given to anybody. Default true. */
	readonly schedulable?: boolean;
	/** It becomes UNHEALTHY, with these actions, when it has lasted this long. */
	readonly worsens?: { readonly afterMs: number; readonly actions: readonly HealthAction[] };
}

/** What one kind of fact means. The most specific rule counts: code and value, code, value, neither. */
export interface FactRule extends Outcome {
	readonly check: string;
	/** HealthFactKind without its prefix. */
	readonly fact: string;
	readonly code?: string;
	/** Only where `after` is one of these. */
	readonly after?: readonly number[];
	/** Only where `after` is at least this: below it is no finding. */
	readonly atLeast?: number;
	/**
	 * At least how much `after` should be, by the fact's code, in which `*` stands for any text; of those that fit the
	 * one with the most text of its own counts, and without one the fact's own `before`. Less is the finding; the rest says that all is well.
	 */
	readonly expected?: Readonly<Record<string, number>>;
	/** Where `after` is one of these the fact says that all is well, and ends what the same kind and code opened. */
	readonly well?: readonly number[];
	/** Kinds of fact that say so too. */
	readonly endedBy?: readonly string[];
	/** Until it came this often within this time it is a note. */
	readonly repeat?: { readonly count: number; readonly withinMs: number };
	/** Where the line has this text, it is a note, unless `expected` has its code. */
	readonly mildWhere?: string;
}

/** A counter of a sample that must not rise by more than `max` within `windowMs`. */
export interface RateRule extends Outcome {
	readonly check: string;
	readonly part: 'node' | 'gpu' | 'nvlink' | 'nic';
	/** Key of proto/telemetry-schema. */
	readonly key: string;
	readonly max: number;
	readonly windowMs: number;
}

export interface XidClass extends Outcome {
	/** Of several in one incident the highest speaks. */
	readonly rank: number;
	/** Where the line has this text, it is a note. */
	readonly mildWhere?: string;
}

export interface Thresholds {
	/** Agents report this often; parts that are slow to measure once in `slowEvery` periods. */
	readonly periodMs: number;
	readonly slowEvery: number;
	/** Periods without data until nothing is known any more. */
	readonly silencePeriods: number;
	/** An incident ends after this long without another XID on the GPU. */
	readonly burstMs: number;
	readonly noteMs: number;
	/** The same reset-class XID again within this: reboot. */
	readonly resetAgainMs: number;
	/** This many incidents that asked for a reboot within `rebootsWithinMs`, and another: hardware. */
	readonly rebootsMax: number;
	readonly rebootsWithinMs: number;
	/** App-class XIDs of this many tenants on one GPU within `tenantsWithinMs`: the GPU, not their programs. */
	readonly tenants: number;
	readonly tenantsWithinMs: number;
	/** Load is utilisation of at least this (0-1), and clean once it lasted this long. */
	readonly loadRatio: number;
	readonly loadCleanMs: number;
}

/** Names of xidClasses that the engine uses by itself. */
export const ENGINE_CLASSES = ['note', 'unlisted', 'reset_again', 'hardware', 'two_tenants', 'silence'] as const;

export interface Policy {
	readonly version: string;
	readonly source: string;
	/** Empty: none of the fleets that the document names. */
	readonly fleet: string;
	readonly thresholds: Thresholds;
	readonly xidClasses: ReadonlyMap<string, XidClass>;
	/** Every code once. */
	readonly xids: ReadonlyMap<number, string>;
	/** What the driver's recovery action (NVML field 230) asks for. */
	readonly recoveryActions: ReadonlyMap<number, Outcome>;
	readonly facts: readonly FactRule[];
	readonly rates: readonly RateRule[];
}

export interface FleetOverride {
	/** Code to class. */
	readonly xids?: Readonly<Record<string, string>>;
	readonly thresholds?: Partial<Thresholds>;
}

export interface PolicyDocument {
	readonly version: string;
	readonly source: string;
	readonly thresholds: Thresholds;
	readonly xidClasses: Readonly<Record<string, XidClass & { readonly codes: readonly (number | string)[] }>>;
	readonly recoveryActions: Readonly<Record<string, Outcome>>;
	readonly facts: readonly FactRule[];
	readonly rates: readonly RateRule[];
	readonly fleets: Readonly<Record<string, FleetOverride>>;
}
