import type { QuotaKind } from '../../store/port/quotas.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { projectName } from '../iam/resource-name.ts';
import type { Target } from '../iam/target.ts';
import { modelsOf } from '../nodes/assignment-terms.ts';
import { gpusOf } from '../nodes/gpus.ts';
import { chainOf } from '../quotas/chain.ts';
import { levelsOfMove } from '../quotas/move.ts';

/**
 * Which calls take from quotas or ask for entitlements, and how much they would take now. A use case that comes to take
 * something gets its line here (a test names the files that do): else Explain would say less than the call meets.
 */
type TakesKind = 'assignment' | 'node work' | 'key' | 'another version' | 'move';

export type MoveGateName = 'standing' | 'departure' | 'place';
export type LaterGateName = 'destination' | 'idle' | 'entitlement' | 'quota' | MoveGateName;

interface Taking {
	readonly takes: TakesKind;
	/** In the order in which the call meets them. */
	readonly gates: readonly LaterGateName[];
	/** Of work on a node. */
	readonly kind?: QuotaKind;
}

export const TAKING: Readonly<Record<string, Taking>> = {
	'gpuaas.nodes.v1.NodeService/AssignNode': {
		takes: 'assignment',
		gates: ['destination', 'idle', 'entitlement', 'quota'],
	},
	'gpuaas.tasks.v1.TaskService/CreateTask': { takes: 'node work', gates: ['quota'], kind: 'tasks' },
	'gpuaas.terminals.v1.TerminalService/OpenTerminal': { takes: 'node work', gates: ['quota'], kind: 'terminals' },
	'gpuaas.terminals.v1.FileService/ReadFiles': { takes: 'node work', gates: ['quota'], kind: 'terminals' },
	'gpuaas.terminals.v1.FileService/WriteFiles': { takes: 'node work', gates: ['quota'], kind: 'terminals' },
	'gpuaas.terminals.v1.PortService/ForwardPort': { takes: 'node work', gates: ['quota'], kind: 'terminals' },
	'gpuaas.iam.v1.KeyService/CreateKey': { takes: 'key', gates: ['quota'] },
	'gpuaas.iam.v1.KeyService/RotateKey': { takes: 'another version', gates: ['quota'] },
	'gpuaas.iam.v1.ScopeService/MoveScope': {
		takes: 'move',
		gates: ['destination', 'standing', 'departure', 'place', 'quota'],
	},
};

export interface QuotaWish {
	readonly kind: QuotaKind;
	/** Undefined: nobody knows yet. */
	readonly amount: number | undefined;
	/** Names of the scopes that must have room, from the leaf up. */
	readonly levels: readonly string[];
}

export type Taken =
	| { readonly kind: 'wishes'; readonly wishes: readonly QuotaWish[] }
	| { readonly kind: 'nothing'; readonly why: string }
	| { readonly kind: 'unknown'; readonly why: string };

export function* entitlementsAskedBy(tx: Tx, method: string, target: Target): Plan<readonly string[]> {
	if (TAKING[method]?.takes !== 'assignment' || target.kind !== 'node') return [];
	return modelsOf(yield* gpusOf(tx, target.node.id));
}

/** `to`: the scope that the call names beside its target. */
export function* quotasTakenBy(tx: Tx, method: string, target: Target, to: ScopeRow | undefined): Plan<Taken> {
	const taking = TAKING[method];
	switch (taking?.takes) {
		case 'assignment':
			return target.kind === 'node' && to !== undefined ? yield* byAssignment(tx, target.node.id, to) : UNKNOWN;
		case 'node work':
			return target.kind === 'node' ? yield* byNodeWork(tx, target, taking.kind ?? 'tasks') : UNKNOWN;
		case 'key':
			return target.kind === 'scope'
				? wishes([{ kind: 'api_keys', amount: 1, levels: yield* levelsOf(tx, target.scope) }])
				: UNKNOWN;
		case 'another version':
			return target.kind === 'scope' && target.collection === 'keys'
				? yield* byRotation(tx, target.id, target.scope)
				: UNKNOWN;
		case 'move':
			return target.kind === 'scope' && to !== undefined ? yield* byMove(tx, target.scope, to) : UNKNOWN;
		case undefined:
			return { kind: 'nothing', why: 'it takes from no quota' };
	}
}

const UNKNOWN: Taken = { kind: 'unknown', why: 'say for which scope' };

function wishes(of: readonly QuotaWish[]): Taken {
	// What takes nothing looks at no limit, even where one is overrun.
	return { kind: 'wishes', wishes: of.filter(({ amount }) => amount !== 0) };
}

function* byAssignment(tx: Tx, nodeId: string, project: ScopeRow): Plan<Taken> {
	const levels = yield* levelsOf(tx, project);
	const gpus = yield* gpusOf(tx, nodeId);
	return wishes([
		{ kind: 'nodes', amount: 1, levels },
		{ kind: 'gpus', amount: gpus?.length, levels },
	]);
}

function* byNodeWork(tx: Tx, target: Extract<Target, { kind: 'node' }>, kind: QuotaKind): Plan<Taken> {
	const { assignment, isHolder } = target;
	const [project] = assignment === undefined || !isHolder ? [] : yield* tx.scopes.getMany([projectName(assignment)]);
	if (project === undefined) return { kind: 'nothing', why: 'what the platform does on a node is nobody’s use' };
	return wishes([{ kind, amount: 1, levels: yield* levelsOf(tx, project) }]);
}

/**
 * A key that has ended gave its place back and needs one again. One that stands elsewhere is no key of this name, whatever
 * its id: it reads as one that is not there.
 */
function* byRotation(tx: Tx, keyId: string, home: ScopeRow): Plan<Taken> {
	const [held] = yield* tx.quotas.reservations('api_keys', [keyId]);
	if (held?.scope === home.name) return { kind: 'nothing', why: 'the key is counted already' };
	return wishes([{ kind: 'api_keys', amount: 1, levels: yield* levelsOf(tx, home) }]);
}

function* byMove(tx: Tx, scope: ScopeRow, to: ScopeRow): Plan<Taken> {
	if (scope.organization !== to.organization) return { kind: 'unknown', why: 'scopes move within their organization' };
	const { entered } = yield* levelsOfMove(tx, scope, to);
	const moved = yield* tx.quotas.at([scope.name]);
	return wishes(
		moved.map(({ kind, used, reserved }) => ({ kind, amount: used + reserved, levels: entered.toReversed() })),
	);
}

function* levelsOf(tx: Tx, scope: ScopeRow): Plan<readonly string[]> {
	return (yield* chainOf(tx, scope.path)).map(({ name }) => name).toReversed();
}
