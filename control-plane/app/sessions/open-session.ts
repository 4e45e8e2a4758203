import { uuidv7 } from '../../../kit/ids.ts';
import type { Hello } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { NodePatch, NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';

/**
 * Opens a session: one unit gives out the next epoch, replaces the session row, and records what the Hello says. The
 * caller has authenticated the stream. A refusal changes nothing.
 */
export type OpenSessionResult =
	| {
			readonly kind: 'ok';
			readonly epoch: number;
			readonly factSeq: number;
			readonly nodeName: string;
			/** Highest fencing token given out: a new journal's floor. */
			readonly fencingSeq: number;
			/** The agent's journal lost facts that it had numbered: it starts from 0 again. */
			readonly journalRestarted: boolean;
	  }
	| {
			readonly kind: 'refused';
			readonly reason: 'NODE_NOT_FOUND' | 'NODE_RETIRED' | 'NODE_LOCKED' | 'STALE_GENERATION' | 'SESSION_SUPERSEDED';
			readonly message: string;
	  };

export interface OpenSessionRequest {
	readonly nodeId: string;
	readonly hello: Hello;
	/** Of the bundle that the agent holds; never above the newest. */
	readonly bundleSeq: number;
	/** Of the certificate that opened the stream. */
	readonly issuerKeyId: string;
	readonly leaseTtlMs: number;
}

export async function openSession(
	deps: AppDeps,
	ctx: RequestContext,
	request: OpenSessionRequest,
): Promise<OpenSessionResult> {
	const nowMs = await deps.store.now();
	const eventId = uuidv7(deps.clock.now(), deps.rng);
	const result = await deps.store.unit((tx) => open(tx, deps, request, nowMs, eventId));
	if (result.kind === 'ok') deps.bus.publish({ topic: 'nodes.changed', key: request.nodeId });
	else ctx.log.info('session refused', { node: request.nodeId, reason: result.reason });
	return result;
}

function* open(
	tx: Tx,
	{ replicaId, limits }: AppDeps,
	request: OpenSessionRequest,
	nowMs: number,
	eventId: string,
): Plan<OpenSessionResult> {
	const { nodeId, hello, leaseTtlMs } = request;
	const node = yield* tx.nodes.get(nodeId);
	const refusal = refusalOf(node, hello);
	if (node === undefined || refusal !== undefined) return refusal ?? unknownNode();
	const epoch = yield* tx.nodes.nextEpoch(nodeId);
	const isNewest = yield* tx.sessions.put({
		nodeId,
		replicaId,
		epoch,
		instanceId: hello.instanceId,
		connectedAtMs: nowMs,
		leaseUntilMs: nowMs + leaseTtlMs,
		disconnectedAtMs: null,
		lostAtMs: null,
	});
	if (!isNewest) {
		return {
			kind: 'refused',
			reason: 'SESSION_SUPERSEDED',
			message: 'a newer session of this node was opened meanwhile; this one must end',
		};
	}
	const patch = changes(node, request);
	if (patch !== undefined) yield* tx.nodes.update(nodeId, patch);
	yield* tx.nodes.setLastSeen([nodeId], nowMs);
	// The agent's journal is new or was restored: its numbers start below what is committed. Without this every fact
	// up to the old number would be taken for a repetition and lost. Facts are idempotent by what they say.
	// A journal is only ever lost with a restart: from the same process a lower number is a Hello that came late.
	const journalRestarted = Number(hello.factSeq) < node.factSeq && hello.instanceId !== node.instanceId;
	if (journalRestarted) {
		yield* tx.nodes.setFactSeq(nodeId, 0);
		// What was offered may have been accepted, run and forgotten: offered again it would run twice. Counted as accepted,
		// it is lost, since the agent doesn't know it any more.
		for (const task of yield* tx.tasks.listActive(nodeId, limits.tasksOpenPerNodeMax)) {
			if (task.acceptedAtMs !== null) continue;
			yield* tx.tasks.update(task.id, { acceptedAtMs: nowMs }, ['leased', 'cancelling']);
		}
	}
	yield* tx.outbox.append({ id: eventId, topic: 'nodes.changed', key: nodeId, atMs: nowMs });
	const factSeq = journalRestarted ? 0 : node.factSeq;
	return { kind: 'ok', epoch, factSeq, nodeName: node.name, fencingSeq: node.fencingSeq, journalRestarted };
}

function unknownNode(): OpenSessionResult {
	return {
		kind: 'refused',
		reason: 'NODE_NOT_FOUND',
		message: 'this control plane has no such node: enroll the host again, or look for a restored old backup',
	};
}

function refusalOf(node: NodeRow | undefined, hello: Hello): OpenSessionResult | undefined {
	if (node === undefined) return unknownNode();
	if (node.retiredAtMs !== null)
		return { kind: 'refused', reason: 'NODE_RETIRED', message: `node ${node.name} was removed; enroll the host again` };
	if (node.locked) {
		const message = `node ${node.name} is locked (${node.lockReason}); an operator must look at it and unlock it`;
		return { kind: 'refused', reason: 'NODE_LOCKED', message };
	}
	if (hello.generation === node.generation) return undefined;
	const message =
		hello.generation < node.generation
			? `this image is generation ${hello.generation} of a node that was reimaged to ${node.generation}; stop it`
			: `the agent has generation ${hello.generation} and the control plane only knows ${node.generation}: it was restored from an older backup`;
	return { kind: 'refused', reason: 'STALE_GENERATION', message };
}

/** Only what differs, so that a reconnect alone moves no etag. */
function changes(node: NodeRow, { hello, bundleSeq, issuerKeyId }: OpenSessionRequest): NodePatch | undefined {
	const told: NodePatch = {
		agentVersion: hello.agentVersion,
		bootId: hello.bootId,
		instanceId: hello.instanceId,
		bundleSeqAcked: bundleSeq,
		issuerKeyIdAcked: issuerKeyId,
		// A tenant with root writes these as it likes: what the platform saw last stays.
		...(node.custody === 'platform' ? { hostname: hello.hostname, capabilities: [...hello.capabilities] } : {}),
	};
	const differs = (key: keyof NodePatch) => JSON.stringify(told[key]) !== JSON.stringify(node[key]);
	const patch = Object.fromEntries(Object.entries(told).filter(([key]) => differs(key as keyof NodePatch)));
	return Object.keys(patch).length === 0 ? undefined : patch;
}
