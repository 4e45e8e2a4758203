import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { missingEntitlements } from '../entitlements/assert-entitled.ts';
import { HOST_MODE } from '../entitlements/subjects.ts';
import { type GateFound, notReached, triedGate } from '../gates.ts';
import { type Granter, mayAt } from '../iam/grants.ts';
import { ancestorsOf } from '../iam/place.ts';
import type { PrincipalActor } from '../iam/principal.ts';
import type { Target } from '../iam/target.ts';
import { hasOpenWork } from '../nodes/assign.ts';
import { hasRoom, QUOTA_NOUNS } from '../quotas/exceeded.ts';
import { assertMayLeave } from '../scopes/may-leave.ts';
import { assertCanStand, assertFits } from '../scopes/move.ts';
import {
	entitlementsAskedBy,
	type LaterGateName,
	type MoveGateName,
	quotasTakenBy,
	TAKING,
	type Taken,
} from './takes.ts';

/**
 * What a call meets past the gates of its use case (app/gates.ts): at the scope that it names beside its object, which Explain
 * is told, at entitlements, and at quotas, where the call itself takes what is only looked at here.
 */

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
export function laterGatesNotReached(method: string): readonly GateFound[] {
	return (TAKING[method]?.gates ?? []).map(notReached);
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
): Plan<readonly GateFound[]> {
	const found: GateFound[] = [];
	for (const gate of TAKING[method]?.gates ?? []) {
		const isOver = found.some(({ outcome }) => outcome === 'failed');
		if (isOver) found.push(notReached(gate));
		else found.push(yield* laterGate(tx, gate, { method, target, to }, asker));
	}
	return found;
}

interface AskedCall {
	readonly method: string;
	readonly target: Target;
	/** Named beside the target. */
	readonly to: ScopeRow | undefined;
}

function* laterGate(tx: Tx, gate: LaterGateName, { method, target, to }: AskedCall, asker: Asker): Plan<GateFound> {
	switch (gate) {
		case 'destination':
			return yield* destinationGate(tx, method, to, asker);
		case 'idle':
			return yield* idleGate(tx, target);
		case 'entitlement':
			return yield* entitlementGate(tx, method, target, to, asker);
		case 'quota':
			return yield* quotaGate(tx, yield* quotasTakenBy(tx, method, target, to), asker);
		default:
			return to === undefined || target.kind !== 'scope'
				? { gate, outcome: 'not asked', detail: 'say for which scope' }
				: yield* moveGate(tx, gate, target.scope, to, asker);
	}
}

/** What a move meets at its new parent and at its old one, by the checks of the move itself. */
function* moveGate(
	tx: Tx,
	gate: MoveGateName,
	scope: ScopeRow,
	to: ScopeRow,
	{ granter: { view, actor }, subject, nowMs }: Asker,
): Plan<GateFound> {
	switch (gate) {
		case 'standing':
			return yield* triedGate(gate, () => {
				assertCanStand(scope, to);
				return `a ${scope.kind} can stand in ${to.name}`;
			});
		case 'departure': {
			const found = yield* triedGate(gate, function* () {
				yield* assertMayLeave(tx, { view, actor: subject }, scope, to, nowMs);
				return 'it may be taken from where it stands, and leaves no guardrail that they may not lift';
			});
			// Which guardrails there are above is shown to whoever meets them.
			const isOther = found.outcome === 'failed' && subject.id !== actor.id;
			return isOther
				? { ...found, detail: 'they may not take it from where it stands, or from a guardrail there' }
				: found;
		}
		case 'place':
			return yield* triedGate(gate, function* () {
				yield* assertFits(tx, scope, to);
				return 'name, depth and number of what moves fit there';
			});
	}
}

/** Of an assignment in host mode alone, which Explain isn't asked about by itself. */
function* idleGate(tx: Tx, target: Target): Plan<GateFound> {
	const gate = 'idle';
	if (target.kind !== 'node' || !(yield* hasOpenWork(tx, target.node.id)))
		return { gate, outcome: 'passed', detail: 'nothing is open on the node' };
	const detail = 'tasks or terminals are open on the node; in host mode it would be refused (NODE_BUSY)';
	return { gate, outcome: 'not asked', detail };
}

/** Whether the scope that the call names beside its target takes what comes: a decision of its own, or a project's state. */
function* destinationGate(
	tx: Tx,
	method: string,
	to: ScopeRow | undefined,
	{ granter: { view }, subject, nowMs }: Asker,
): Plan<GateFound> {
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
): Plan<GateFound> {
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

function* quotaGate(tx: Tx, taken: Taken, asker: Asker): Plan<GateFound> {
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
