import { GpuaasError } from '../../kit/error.ts';
import type { Tx } from '../store/port/store.ts';
import type { Plan } from '../store/port/unit.ts';
import type { AppDeps } from './deps.ts';
import type { CheckedPolicy, TargetKind } from './iam/method-policy.ts';
import type { PolicyView } from './iam/policy-view.ts';
import type { PrincipalActor } from './iam/principal.ts';
import type { TargetOf } from './iam/target.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

/**
 * What an allowed call meets before it does anything: the state of what it is about, and limits that hold whoever asks.
 * A use case lists its gates; app/use-case passes them in the unit, in that order, and Explain asks the same ones, so that
 * what is explained can't differ from what happens. What hangs on the rest of a request (its etag, its text, how much it
 * asks for) is judged with the request: a gate says of it at most that it was not asked.
 */
export interface Gate<K extends TargetKind = TargetKind> {
	/** As Explain names it. */
	readonly gate: string;
	/** Throws as the call is refused; else what was found, in words. Changes nothing and locks nothing. */
	check(tx: Tx, at: GateAt<K>): Plan<Passed> | Passed;
}

/** `notAsked`: whether it lets the call through hangs on the rest of the request, which Explain is not told. */
export type Passed = string | { readonly notAsked: string };

export interface GateAt<K extends TargetKind> {
	readonly target: TargetOf[K];
	/** Who calls, or would call. */
	readonly actor: PrincipalActor;
	/** The same with what they hold as of now. */
	granter(tx: Tx): Plan<{ readonly view: PolicyView; readonly actor: PrincipalActor }>;
	readonly policy: CheckedPolicy;
	readonly deps: Pick<AppDeps, 'limits' | 'sessions' | 'terminals' | 'replicaId'> & {
		readonly telemetry: Pick<Telemetry, 'fastPlans'>;
	};
	readonly nowMs: number;
}

/** A gate as it was found; `reason` is that with which the call is refused. */
export interface GateFound {
	readonly gate: string;
	readonly outcome: 'passed' | 'failed' | 'not reached' | 'not asked';
	readonly detail: string;
	readonly reason?: string;
}

export function* passGates<K extends TargetKind>(tx: Tx, gates: readonly Gate<K>[], at: GateAt<K>): Plan<void> {
	for (const gate of gates) yield* found(gate.check(tx, at));
}

/** What a call would find at each of them now. */
export function* explainGates(tx: Tx, gates: readonly Gate[], at: GateAt<TargetKind>): Plan<readonly GateFound[]> {
	const shown: GateFound[] = [];
	for (const { gate, check } of gates) {
		const isOver = shown.some(({ outcome }) => outcome === 'failed');
		shown.push(isOver ? notReached(gate) : yield* triedGate(gate, () => check(tx, at)));
	}
	return shown;
}

/** By the very check that refuses the call. */
export function* triedGate(gate: string, check: () => Plan<Passed> | Passed): Plan<GateFound> {
	try {
		const passed = yield* found(check());
		if (typeof passed === 'string') return { gate, outcome: 'passed', detail: passed };
		return { gate, outcome: 'not asked', detail: passed.notAsked };
	} catch (error) {
		if (!(error instanceof GpuaasError)) throw error;
		return { gate, outcome: 'failed', detail: error.message, reason: error.reason };
	}
}

export function notReached(gate: string): GateFound {
	return { gate, outcome: 'not reached', detail: '' };
}

function* found(what: Plan<Passed> | Passed): Plan<Passed> {
	return typeof what === 'object' && 'next' in what ? yield* what : what;
}
