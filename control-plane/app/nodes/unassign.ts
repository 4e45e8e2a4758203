import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { NodeService, UnassignNodeResponseSchema } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { Gate } from '../gates.ts';
import { prepareStop, stopTasks, tasksUnder } from '../tasks/stop-tasks.ts';
import { mutation } from '../use-case.ts';
import { assignmentMessage } from '../wire/node.ts';
import { giveBackAssignment } from './assignment-terms.ts';

/** Throws NODE_NOT_ASSIGNED. */
const ASSIGNED: Gate<'node'> = {
	gate: 'assignment',
	check(_tx, { target: { assignment } }) {
		if (assignment === undefined) throw notAssigned();
		return `it is assigned to ${assignment.organization}/${assignment.project}`;
	},
};

/**
 * Ends the assignment and its tasks: queued ones at once, with endings; running ones are told to stop and end by their
 * receipts. After host mode nobody knows what the tenant left on the host, so custody becomes transit: the node takes
 * no work and no assignment until it was reimaged and enrolled again.
 */
export const unassignNode = mutation('node', NodeService.method.unassignNode, {
	gates: [ASSIGNED],
	async prepare({ deps }, { assignment }) {
		if (assignment === undefined) return [];
		const open = await deps.store.read((tx) =>
			tx.tasks.listOpenByAssignment(assignment.id, deps.limits.tasksOpenPerNodeMax),
		);
		return await prepareStop(deps, open, END);
	},
	*apply(tx, { deps, request, nowMs }, { node, assignment }, endings) {
		// One that ended meanwhile is none any more.
		const closed = assignment === undefined ? undefined : yield* tx.assignments.close(assignment.id, nowMs);
		if (closed === undefined) throw notAssigned();
		yield* giveBackAssignment(tx, [closed.id]);
		if (closed.mode === 'host') yield* tx.nodes.update(node.id, { custody: 'transit' });
		const open = yield* tasksUnder(tx, closed, deps.limits.tasksOpenPerNodeMax, nowMs);
		const stopped = yield* stopTasks(tx, open, endings, nowMs);
		return {
			response: create(UnassignNodeResponseSchema, { assignment: assignmentMessage(closed) }),
			audit: {
				action: 'nodes.unassign',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				organization: closed.organization,
				custody: closed.mode === 'host' ? 'transit' : node.custody,
				detail: {
					assignment: closed.id,
					organization: closed.organization,
					project: closed.project,
					tasks_ended: stopped.ended.length,
					tasks_cancelling: stopped.cancelling.length,
				},
				...(request.reason === '' ? {} : { personal: { reason: request.reason } }),
			},
			events: [
				{ topic: 'assignments.ended', key: closed.id },
				{ topic: 'nodes.changed', key: node.id },
				...stopped.events,
			],
			effects: () => stopped.send(deps, END.reason),
		};
	},
});

const END = {
	state: 'cancelled',
	reason: 'ASSIGNMENT_ENDED',
	message: 'the assignment that it was made under ended',
} as const;

function notAssigned(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_NOT_ASSIGNED',
		message: 'the node has no open assignment, so there is nothing to end; look at it with GetNode',
	});
}
