import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { missingEntitlements } from '../entitlements/assert-entitled.ts';
import { HOST_MODE } from '../entitlements/subjects.ts';
import { type Granter, mayAt } from '../iam/grants.ts';
import { ancestorsOf } from '../iam/place.ts';
import type { PrincipalActor } from '../iam/principal.ts';
import type { Target } from '../iam/target.ts';
import { hasRoom, QUOTA_NOUNS } from '../quotas/exceeded.ts';
import { entitlementsAskedBy, quotasTakenBy, TAKING, type Taken } from './takes.ts';

/** A gate that a call meets after it was allowed, as Explain shows it. */
export interface LaterGate {
	readonly gate: 'destination' | 'entitlement' | 'quota';
	readonly outcome: 'passed' | 'failed' | 'not reached' | 'not asked';
	readonly detail: string;
	/** With which the call itself would be refused. */
	readonly reason?:
		| 'ENTITLEMENT_MISSING'
		| 'QUOTA_EXCEEDED'
		| 'INVENTORY_MISSING'
		| 'SCOPE_NOT_FOUND'
		| 'SCOPE_STATE_INVALID';
}

/** Who asks, which need not be who would call: of a level that they may not look at they learn no more than the verdict. */
export interface Asker {
	readonly granter: Granter;
	/** Who would call. */
	readonly subject: PrincipalActor;
	readonly nowMs: number;
}

function* may(tx: Tx, { granter, nowMs }: Asker, permission: string, scope: string): Plan<boolean> {
	const place = yield* granter.view.place(tx, scope);
	return place !== undefined && mayAt(granter, permission, place, nowMs, { reads: true });
}

/** Of a call that was refused before. */
export function laterGatesNotReached(method: string): readonly LaterGate[] {
	return (TAKING[method]?.gates ?? []).map((gate) => ({ gate, outcome: 'not reached', detail: '' }));
}

/**
 * What an allowed call would find at these gates now, by the very rows that the call itself looks at. It locks and reserves
 * nothing: by the time of the call others may have taken the room.
 */
export function* laterGates(
	tx: Tx,
	method: string,
	target: Target,
	to: ScopeRow | undefined,
	asker: Asker,
): Plan<readonly LaterGate[]> {
	const found: LaterGate[] = [];
	for (const gate of TAKING[method]?.gates ?? []) {
		const isOver = found.some(({ outcome }) => outcome === 'failed');
		if (isOver) found.push({ gate, outcome: 'not reached', detail: '' });
		else if (gate === 'destination') found.push(yield* destinationGate(tx, method, to, asker));
		else if (gate === 'entitlement') found.push(yield* entitlementGate(tx, method, target, to, asker));
		else found.push(yield* quotaGate(tx, yield* quotasTakenBy(tx, method, target, to), asker));
	}
	return found;
}

/** Whether the scope that the call names beside its target takes what comes: a decision of its own, or a project's state. */
function* destinationGate(
	tx: Tx,
	method: string,
	to: ScopeRow | undefined,
	{ granter: { view }, subject, nowMs }: Asker,
): Plan<LaterGate> {
	const gate = 'destination';
	if (to === undefined) return { gate, outcome: 'not asked', detail: 'say for which scope' };
	if (TAKING[method]?.takes === 'move') {
		const place = yield* view.place(tx, to.name);
		// As the call itself answers: a parent where one may not create reads as none.
		if (place === undefined || !mayAt({ view, actor: subject }, 'scopes.create', place, nowMs))
			return { gate, outcome: 'failed', detail: `nothing may be created in ${to.name}`, reason: 'SCOPE_NOT_FOUND' };
		return { gate, outcome: 'passed', detail: `${to.name} takes new scopes` };
	}
	const stopped = (yield* tx.scopes.atPaths(ancestorsOf(to.path))).find(({ state }) => state !== 'active');
	if (to.kind === 'project' && stopped === undefined)
		return { gate, outcome: 'passed', detail: `${to.name} takes nodes` };
	const why = to.kind === 'project' ? 'it, or what it stands in, is not active' : 'it is no project';
	return { gate, outcome: 'failed', detail: `${to.name} takes no nodes: ${why}`, reason: 'SCOPE_STATE_INVALID' };
}

function* entitlementGate(
	tx: Tx,
	method: string,
	target: Target,
	to: ScopeRow | undefined,
	asker: Asker,
): Plan<LaterGate> {
	const gate = 'entitlement';
	const { nowMs } = asker;
	if (to === undefined) return { gate, outcome: 'not asked', detail: 'say for which scope' };
	const subjects = yield* entitlementsAskedBy(tx, method, target);
	const missing = yield* missingEntitlements(tx, to, subjects, nowMs);
	if (missing.length > 0) {
		const detail = `${to.name} is not entitled to ${missing.join(', ')} now`;
		return { gate, outcome: 'failed', detail, reason: 'ENTITLEMENT_MISSING' };
	}
	if (!(yield* may(tx, asker, 'entitlements.get', to.name)))
		return { gate, outcome: 'passed', detail: `${to.name} is entitled to it` };
	const lacksHost = (yield* missingEntitlements(tx, to, [HOST_MODE], nowMs)).length > 0;
	const detail = `${to.name} is entitled to ${subjects.join(', ') || 'it'}; in host mode ${lacksHost ? 'it would not be' : 'too'}`;
	return { gate, outcome: 'passed', detail };
}

function* quotaGate(tx: Tx, taken: Taken, asker: Asker): Plan<LaterGate> {
	const gate = 'quota';
	if (taken.kind === 'unknown') return { gate, outcome: 'not asked', detail: taken.why };
	if (taken.kind === 'nothing') return { gate, outcome: 'passed', detail: taken.why };
	const shown = new Set<string>();
	for (const { kind, amount, levels } of taken.wishes) {
		const rows = (yield* tx.quotas.at(levels)).filter((row) => row.kind === kind);
		const noun = QUOTA_NOUNS[kind];
		// From the leaf up, as the call itself looks.
		for (const level of levels) {
			const row = rows.find(({ scope }) => scope === level);
			if (row === undefined || row.limitMax === null) continue;
			const pending = row.reserved === 0 ? '' : ` and ${row.reserved} reserved`;
			const use = `${row.used}${pending} of ${row.limitMax} ${noun} at ${level}`;
			if (amount === undefined)
				return {
					gate,
					outcome: 'failed',
					detail: `${use}, and nobody knows yet how many this needs`,
					reason: 'INVENTORY_MISSING',
				};
			if (!hasRoom(row, amount))
				return { gate, outcome: 'failed', detail: `${use}, and this needs ${amount} more`, reason: 'QUOTA_EXCEEDED' };
			shown.add((yield* may(tx, asker, 'quotas.get', level)) ? use : 'room above');
		}
	}
	return { gate, outcome: 'passed', detail: [...shown].join('; ') || 'no limit here or above' };
}
