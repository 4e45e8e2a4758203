import { GpuaasError } from '../../../kit/error.ts';
import type { Tx } from '../../store/port/store.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import type { Gate } from '../gates.ts';
import { checkHealth } from '../health/gate.ts';
import { assertNotElsewhere } from '../sessions/elsewhere.ts';
import { checkCustody, checkTakesWork, ownerOf } from './admission.ts';
import { assertNotRetired } from './change.ts';

/** What calls about a node meet: what it is, whose hands it is in, what it takes. Each is used by several of them. */
type NodeGate = Gate<'node'>;

/** Throws NODE_RETIRED. */
export const NOT_RETIRED: NodeGate = {
	gate: 'node',
	check(_tx, { target: { node } }) {
		assertNotRetired(node);
		return `the node is ${node.state}`;
	},
};

/** Throws NODE_RETIRED, NODE_LOCKED, NODE_DRAINING, NODE_CORDONED. */
export const TAKES_WORK: NodeGate = {
	gate: 'admission',
	check(_tx, { target: { node } }) {
		checkTakesWork(node);
		return 'it takes new work';
	},
};

/** Throws NODE_IN_TENANT_CUSTODY. */
export const IN_CUSTODY: NodeGate = {
	gate: 'custody',
	check(_tx, { target }) {
		checkCustody(target.node, ownerOf(target));
		return `it is in ${target.node.custody} custody`;
	},
};

/** Of what nobody but the platform may do, whoever asks. Throws NODE_IN_TENANT_CUSTODY. */
export const IN_PLATFORM_CUSTODY: NodeGate = {
	gate: 'custody',
	check(_tx, { target: { node } }) {
		checkCustody(node, undefined);
		return 'it is in platform custody';
	},
};

/** Throws NODE_HELD, NODE_QUARANTINED, NODE_UNHEALTHY. */
export const HEALTHY: NodeGate = {
	gate: 'health',
	*check(tx, { target: { node }, nowMs }) {
		yield* checkHealth(tx, node, nowMs);
		return 'its verdict, or an override, lets it be given away';
	},
};

/** Of the agent's stream. Throws NODE_UNREACHABLE, NODE_ON_OTHER_REPLICA. */
export const CONNECTED: NodeGate = {
	gate: 'connection',
	*check(tx, { target: { node }, deps, nowMs }) {
		yield* assertConnected(tx, deps, node.id, nowMs);
		return 'its agent is connected';
	},
};

/** All of the node's, whoever asks: tenants share it, so nobody learns how many. Throws QUEUE_FULL. */
export const ROOM_FOR_TASK: NodeGate = {
	gate: 'room',
	*check(tx, { target: { node }, deps }) {
		const max = deps.limits.tasksOpenPerNodeMax;
		if ((yield* asPlatform(tx.tasks.countOpen(node.id))) >= max) throw queueFull(max);
		return 'the node has room for one more task';
	},
};

/** Throws NODE_UNREACHABLE, NODE_ON_OTHER_REPLICA. */
export function* assertConnected(
	tx: Tx,
	deps: Pick<AppDeps, 'sessions' | 'replicaId'>,
	nodeId: string,
	nowMs: number,
): Plan<void> {
	if (deps.sessions.isConnected(nodeId)) return;
	yield* assertNotElsewhere(tx, deps, nodeId, nowMs);
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_UNREACHABLE',
		message: 'the node is not connected now, so nothing was opened; gpuaas node why says since when, and what is tried',
	});
}

function queueFull(tasksMax: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'QUEUE_FULL',
		message: `the node has ${tasksMax} open tasks, which is its limit; wait until some have ended, or choose another node`,
		metadata: { tasks_max: String(tasksMax), 'retry-after': '5' },
	});
}
