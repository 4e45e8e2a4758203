import { create } from '@bufbuild/protobuf';
import { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { NodeService, RemoveNodeResponseSchema } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import { TASK_STATES_OPEN } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import { endDrain } from '../operations/drain-operation.ts';
import { applyEndings, type Ending, prepareEndings } from '../tasks/end-tasks.ts';
import { mutation } from '../use-case.ts';
import { factsOfNode, nodeMessage } from '../wire/node.ts';
import { giveBackAssignment } from './assignment-terms.ts';
import { changeNode } from './change.ts';
import { NOT_RETIRED } from './gates.ts';

/**
 * Retires the node for good: its certificates are revoked, its assignments and drain end, its open tasks end
 * with a closing each, and its live stream is cut after the commit. A task that was queued or moved on between `prepare` and
 * the unit is left to the reconcilers (queue and lease expiry): a retired node never claims.
 */
export const removeNode = mutation('node', NodeService.method.removeNode, {
	async prepare({ deps }, { node }) {
		const open = await deps.store.read((tx) => openTasks(tx, node.id, deps.limits.tasksOpenPerNodeMax));
		return await prepareEndings(deps, open, endingOf);
	},
	gates: [NOT_RETIRED],
	*apply(tx, { deps, request, nowMs }, { node }, endings) {
		const revoked: string[] = [];
		for (const { serial } of yield* tx.certificates.listLive(node.id, nowMs)) {
			yield* tx.certificates.update(serial, {
				state: 'revoked',
				revokedAtMs: nowMs,
				revocationReason: 'the node was removed',
			});
			revoked.push(serial);
		}
		// All of them: that of the whole node, and those of its slices.
		const assignments = (yield* tx.assignments.openOfNodes([node.id])).map(({ id }) => id);
		for (const id of assignments) yield* tx.assignments.close(id, nowMs);
		yield* giveBackAssignment(tx, assignments);
		const drain = yield* tx.operations.runningOfTarget(node.id, 'nodes.drain');
		if (drain !== undefined) yield* endDrain(tx, drain, 'cancelled', 'the node was removed', nowMs);
		const ended = yield* applyEndings(tx, endings);
		const patch = { state: 'retired', retiredAtMs: nowMs, cordoned: true, cordonReason: 'removed' } as const;
		const change = yield* changeNode(tx, node, 'nodes.remove', patch, request.reason);
		const message = nodeMessage(yield* factsOfNode(tx, change.node), nowMs);
		return {
			response: create(RemoveNodeResponseSchema, { node: message }),
			audit: {
				...change.audit,
				detail: { name: node.name, certificates_revoked: revoked.length, tasks_ended: ended.length },
			},
			events: [
				...change.events,
				{ topic: 'certificates.revoked', key: node.id },
				...assignments.map((key) => ({ topic: 'assignments.ended', key })),
			],
			effects() {
				for (const { id } of ended) deps.bus.publish({ topic: 'tasks.changed', key: id });
				deps.sessions.close(node.id, CloseCode.REVOKED, 'the node was removed');
			},
		};
	},
});

function endingOf(task: TaskRow): Ending {
	return task.state === 'queued'
		? {
				state: 'cancelled',
				reason: 'NODE_REMOVED',
				message: 'its node was removed while it waited; nothing was started',
			}
		: { state: 'lost', reason: 'NODE_REMOVED', message: 'its node was removed, so nobody can say how it ended' };
}

function openTasks(tx: Tx, nodeId: string, limit: number): Plan<readonly TaskRow[]> {
	return tx.tasks.list({
		afterId: '',
		limit,
		nodeId,
		states: TASK_STATES_OPEN,
		batchId: null,
		visibility: { all: true },
	});
}
