import { uuidv7 } from '../../../kit/ids.ts';
import type { TaskRefused } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { Hint } from '../../bus/bus.ts';
import type { RequestContext } from '../../context.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import { currentFence, type FactSource } from './record-facts.ts';
import { releaseTasks } from './release-tasks.ts';
import { isSameAttempt, transition } from './transition.ts';
import { isEnded } from './view.ts';

/**
 * Offers that an agent did not take and could not keep a refusal of, because its journal takes no writes. They do to a
 * task what a refusal does. No facts, so nothing is acknowledged: one that isn't recorded, or that a newer session of
 * the node overtook, leaves its task leased, and the agent answers the next copy of the offer in the same way. Called by
 * the gateway; never rejects.
 */
export async function recordDeclined(
	deps: AppDeps,
	ctx: RequestContext,
	source: FactSource,
	declined: readonly TaskRefused[],
): Promise<void> {
	const nowMs = deps.clock.now();
	const eventIds = declined.map(() => uuidv7(nowMs, deps.rng)).sort();
	try {
		const changed = await deps.store.unit((tx) => apply(tx, source, { declined, eventIds, nowMs }));
		for (const task of changed) deps.bus.publish(hintOf(task));
	} catch (error) {
		ctx.log.warn('declined offers were not recorded', { node: source.nodeId, error });
	}
}

/** In the outbox, and on the bus of this replica at once. */
function hintOf({ id, nodeId, state }: TaskRow): Hint {
	return state === 'queued' ? { topic: 'tasks.queued', key: nodeId } : { topic: 'tasks.changed', key: id };
}

function* apply(
	tx: Tx,
	source: FactSource,
	batch: { readonly declined: readonly TaskRefused[]; readonly eventIds: readonly string[]; readonly nowMs: number },
): Plan<readonly TaskRow[]> {
	const node = currentFence(yield* tx.nodes.getFence(source.nodeId), source);
	const changed: TaskRow[] = [];
	for (const fact of batch.declined) {
		const task = yield* tx.tasks.get(fact.taskId);
		if (task === undefined || task.nodeId !== node.id || !isSameAttempt(task, fact)) continue;
		const patch = transition(task, { kind: 'refused', fact }, batch.nowMs);
		const after = patch && (yield* tx.tasks.update(task.id, { ...patch, custody: node.custody }, [task.state]));
		if (after === undefined) continue;
		yield* tx.outbox.append({ id: batch.eventIds[changed.length] ?? '', ...hintOf(after), atMs: batch.nowMs });
		changed.push(after);
	}
	yield* releaseTasks(
		tx,
		changed.filter(({ state }) => isEnded(state)),
	);
	return changed;
}
