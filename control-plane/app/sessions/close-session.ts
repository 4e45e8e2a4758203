import { uuidv7 } from '../../../kit/ids.ts';
import type { AppDeps } from '../deps.ts';

/** Records that the stream ended. The lease still runs: a node whose link broke isn't lost before it ran out. */
export async function closeSession(deps: AppDeps, nodeId: string, epoch: number): Promise<void> {
	const nowMs = await deps.store.now();
	const eventId = uuidv7(deps.clock.now(), deps.rng);
	const wasNewest = await deps.store.unit(function* (tx) {
		const ended = yield* tx.sessions.disconnect(nodeId, epoch, nowMs);
		if (ended) yield* tx.outbox.append({ id: eventId, topic: 'nodes.changed', key: nodeId, atMs: nowMs });
		return ended;
	});
	if (wasNewest) deps.bus.publish({ topic: 'nodes.changed', key: nodeId });
}
