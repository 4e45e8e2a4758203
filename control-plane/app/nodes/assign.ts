import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { AssignNodeResponseSchema, NodeService } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { ProjectRef } from '../../store/port/nodes.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { ancestorsOf } from '../iam/place.ts';
import { projectName } from '../iam/resource-name.ts';
import { lockPolicy, mutation } from '../use-case.ts';
import { assignmentMessage, modeOf } from '../wire/node.ts';
import { takeForAssignment } from './assignment-terms.ts';
import { HEALTHY, NOT_RETIRED, TAKES_WORK } from './gates.ts';

/** Throws NODE_ALREADY_ASSIGNED. */
const UNASSIGNED: Gate<'node'> = {
	gate: 'assignment',
	check(_tx, { target: { assignment } }) {
		if (assignment !== undefined) throw alreadyAssigned(assignment);
		return 'nobody has it';
	},
};

/** Throws NODE_IN_TENANT_CUSTODY. */
const CLEAN: Gate<'node'> = {
	gate: 'custody',
	check(_tx, { target: { node } }) {
		if (node.custody !== 'platform') throw unclean();
		return 'it is in platform custody';
	},
};

/**
 * The account on the node is the same for whoever comes next: what one tenant's programs have in memory and environment
 * another's could read. Throws NODE_BUSY.
 */
const VACATED: Gate<'node'> = {
	gate: 'vacancy',
	*check(tx, { target: { node }, deps }) {
		const { tasksOpenPerNodeMax, terminalsOpenPerNodeMax } = deps.limits;
		const tasks = yield* tx.tasks.listActive(node.id, tasksOpenPerNodeMax);
		const terminals = yield* tx.terminals.listOpen(node.id, '', terminalsOpenPerNodeMax);
		if ([...tasks, ...terminals].some(({ assignmentId }) => assignmentId !== null)) throw vacating();
		return 'nothing of an earlier assignment runs there';
	},
};

/**
 * Opens the assignment that scopes everything a project may see and do on the node. In host mode the project gets root,
 * so custody passes to the tenant with the same commit, and no work of the platform may be running then.
 */
export const assignNode = mutation('node', NodeService.method.assignNode, {
	prepare: ({ deps, nowMs }) => uuidv7(nowMs, deps.rng),
	// Whoever deletes or suspends the project, or what it stands in, or moves it, holds the same.
	lock: lockPolicy,
	gates: [NOT_RETIRED, UNASSIGNED, CLEAN, TAKES_WORK, HEALTHY, VACATED],
	*apply(tx, { request, nowMs }, { node }, id) {
		const project = yield* checkProject(tx, request);
		const mode = modeOf(request.mode);
		if (mode === 'host') {
			if (yield* hasOpenWork(tx, node.id)) throw busy();
			yield* tx.nodes.update(node.id, { custody: 'tenant' });
		}
		const row: AssignmentRow = {
			id,
			nodeId: node.id,
			sliceId: '',
			mode,
			organization: request.organization,
			project: request.project,
			generation: node.generation,
			fromMs: nowMs,
			untilMs: null,
		};
		yield* tx.assignments.insert(row);
		yield* takeForAssignment(tx, row, project, nowMs);
		return {
			response: create(AssignNodeResponseSchema, { assignment: assignmentMessage(row) }),
			audit: {
				action: 'nodes.assign',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				organization: row.organization,
				custody: mode === 'host' ? 'tenant' : node.custody,
				detail: {
					assignment: id,
					organization: row.organization,
					project: row.project,
					mode,
					generation: row.generation,
				},
			},
			events: [{ topic: 'nodes.changed', key: node.id }],
		};
	},
});

/** Only a project that is there and not about to end takes nodes. The policy is locked, so that it stays so. */
function* checkProject(tx: Tx, project: ProjectRef): Plan<ScopeRow> {
	const scope = yield* tx.scopes.get(projectName(project));
	const chain = scope === undefined ? [] : yield* tx.scopes.atPaths(ancestorsOf(scope.path));
	if (scope !== undefined && chain.every(({ state }) => state === 'active')) return scope;
	throw refused(
		'SCOPE_STATE_INVALID',
		scope === undefined
			? 'there is no such project; create the organization and the project first (gpuaas org create, gpuaas project create)'
			: 'the project, or what it stands in, is suspended or being deleted and takes no nodes; resume it first',
	);
}

/** Which host mode, in which a tenant gets root beside it, allows none of. */
export function* hasOpenWork(tx: Tx, nodeId: string): Plan<boolean> {
	return (yield* tx.tasks.countOpen(nodeId)) > 0 || (yield* tx.terminals.countOpen(nodeId)) > 0;
}

function unclean(): GpuaasError {
	return refused(
		'NODE_IN_TENANT_CUSTODY',
		'the node was in the hands of a tenant and is not known to be clean; reimage its host, remove the node and enroll it again',
	);
}

function alreadyAssigned(open: AssignmentRow): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_ALREADY_ASSIGNED',
		message: `the node is assigned to ${open.organization}/${open.project}; unassign it first`,
		metadata: { assignment: open.id },
	});
}

function vacating(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_BUSY',
		message:
			'tasks or terminals of the assignment before are still ending on the node; assign it again in a few seconds, or look at what is left with gpuaas node why',
		metadata: { 'retry-after': '5' },
	});
}

function busy(): GpuaasError {
	return refused(
		'NODE_BUSY',
		'tasks or terminals are open on the node, and in host mode a tenant gets root beside them; drain the node or end them first',
	);
}

function refused(reason: string, message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason, message });
}
