import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { AssignNodeResponseSchema, NodeService } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import { mutation } from '../use-case.ts';
import { assignmentMessage, modeOf } from '../wire/node.ts';
import { assertNotRetired } from './change.ts';

/**
 * Opens the assignment that scopes everything a project may see and do on the node. In host mode the project gets root,
 * so custody passes to the tenant with the same commit, and no work of the platform may be running then.
 */
export const assignNode = mutation('node', NodeService.method.assignNode, {
	prepare: ({ deps, nowMs }) => uuidv7(nowMs, deps.rng),
	*apply(tx, { request, nowMs }, { node, assignment }, id) {
		assertNotRetired(node);
		if (assignment !== undefined) throw alreadyAssigned(assignment);
		checkUsable(node);
		const mode = modeOf(request.mode);
		if (mode === 'host') {
			if ((yield* tx.tasks.countOpen(node.id)) > 0) throw busy();
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

function checkUsable(node: NodeRow): void {
	if (node.custody !== 'platform') {
		throw refused(
			'NODE_IN_TENANT_CUSTODY',
			'the node was in the hands of a tenant and is not known to be clean; reimage its host, remove the node and enroll it again',
		);
	}
	if (node.locked)
		throw refused(
			'NODE_LOCKED',
			"two holders of this node's identity were seen; look at the host, then unlock the node",
		);
	if (node.state === 'draining')
		throw refused('NODE_DRAINING', 'the node is being drained; wait for the drain, or cancel it');
	if (node.cordoned) throw refused('NODE_CORDONED', 'the node is cordoned; uncordon it first');
}

function alreadyAssigned(open: AssignmentRow): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_ALREADY_ASSIGNED',
		message: `the node is assigned to ${open.organization}/${open.project}; unassign it first`,
		metadata: { assignment: open.id },
	});
}

function busy(): GpuaasError {
	return refused(
		'NODE_BUSY',
		'tasks are open on the node, and in host mode a tenant gets root beside them; drain the node or cancel them first',
	);
}

function refused(reason: string, message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason, message });
}
