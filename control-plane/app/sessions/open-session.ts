import { uuidv7 } from '../../../kit/ids.ts';
import type { Hello } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { NodePatch, NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import { applyEndings, type PreparedEnding, prepareEndings } from '../tasks/end-tasks.ts';
import { JOURNAL_LOST, unknownAttempts } from '../tasks/lose-tasks.ts';

/**
 * Opens a session: one unit gives out the next epoch, replaces the session row, records what the Hello says, and ends
 * what a restarted agent no longer knows. The caller has authenticated the stream. A refusal changes nothing.
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
	const { result, lost } = await openSigned(deps, request, { nowMs, eventId });
	if (result.kind === 'ok') deps.bus.publish({ topic: 'nodes.changed', key: request.nodeId });
	else ctx.log.info('session refused', { node: request.nodeId, reason: result.reason });
	for (const { id } of lost) deps.bus.publish({ topic: 'tasks.changed', key: id });
	if (lost.length > 0) ctx.log.warn('tasks were lost', { count: lost.length, reason: JOURNAL_LOST.reason });
	return result;
}

interface Opened {
	readonly result: OpenSessionResult;
	readonly lost: readonly TaskRow[];
}

interface Opening {
	readonly nowMs: number;
	readonly eventId: string;
	/** For what is lost, as far as it is known. */
	readonly endings: readonly PreparedEnding[];
}

/** Closings are signed outside the unit: it is taken back and runs again when it meets a loss that has none. */
async function openSigned(deps: AppDeps, request: OpenSessionRequest, at: Omit<Opening, 'endings'>): Promise<Opened> {
	let endings: readonly PreparedEnding[] = [];
	for (let left = RUNS_MAX; ; left -= 1) {
		try {
			return await deps.store.unit((tx) => open(tx, deps, request, { ...at, endings }));
		} catch (error) {
			if (!(error instanceof UnsignedLoss) || left <= 1) throw error;
			endings = await prepareEndings(deps, error.tasks, JOURNAL_LOST);
		}
	}
}

/** Each run after the second means that one of those tasks moved on between two runs. */
const RUNS_MAX = 5;

class UnsignedLoss extends Error {
	readonly tasks: readonly TaskRow[];

	constructor(tasks: readonly TaskRow[]) {
		super('tasks are lost and their closings are not signed yet');
		this.tasks = tasks;
	}
}

function* open(tx: Tx, deps: AppDeps, request: OpenSessionRequest, { nowMs, eventId, endings }: Opening): Plan<Opened> {
	const { replicaId, limits } = deps;
	const { nodeId, hello, leaseTtlMs } = request;
	const node = yield* tx.nodes.get(nodeId);
	const refusal = refusalOf(node, hello);
	if (node === undefined || refusal !== undefined) return { result: refusal ?? unknownNode(), lost: [] };
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
		const message = 'a newer session of this node was opened meanwhile; this one must end';
		return { result: { kind: 'refused', reason: 'SESSION_SUPERSEDED', message }, lost: [] };
	}
	const patch = changes(node, request);
	if (patch !== undefined) yield* tx.nodes.update(nodeId, patch);
	yield* tx.nodes.setLastSeen([nodeId], nowMs);
	// The agent's journal is new or was restored: its numbers start below what is committed. Without this every fact up
	// to the old number would be taken for a repetition and lost. Facts are idempotent by what they say.
	const isBehind = Number(hello.factSeq) < node.factSeq;
	const journalRestarted = isBehind && hello.instanceId !== node.instanceId;
	if (journalRestarted) yield* tx.nodes.setFactSeq(nodeId, 0);
	const active = yield* listActive(tx, nodeId, { nowMs, journalRestarted, countMax: limits.tasksOpenPerNodeMax });
	// A journal is only ever lost with a restart. A Hello of the same process that is behind came late: the agent took
	// more over the session before, maybe one of another replica, after it wrote this.
	const isLate = isBehind && !journalRestarted;
	const unknown = isLate ? [] : unknownAttempts(active, hello.attempts);
	const lost = yield* applyEndings(tx, signedOf(unknown, endings));
	yield* tx.outbox.append({ id: eventId, topic: 'nodes.changed', key: nodeId, atMs: nowMs });
	const { name: nodeName, fencingSeq } = node;
	const factSeq = journalRestarted ? 0 : node.factSeq;
	return { result: { kind: 'ok', epoch, factSeq, nodeName, fencingSeq, journalRestarted }, lost };
}

function* listActive(
	tx: Tx,
	nodeId: string,
	options: { readonly nowMs: number; readonly journalRestarted: boolean; readonly countMax: number },
): Plan<readonly TaskRow[]> {
	const active = yield* tx.tasks.listActive(nodeId, options.countMax);
	if (!options.journalRestarted) return active;
	// What was offered may have been accepted, run and forgotten: offered again it would run twice. Counted as accepted,
	// it is lost unless the agent knows it.
	const accepted: TaskRow[] = [];
	const patch = { acceptedAtMs: options.nowMs };
	for (const task of active) {
		const isOffered = task.acceptedAtMs === null;
		accepted.push((isOffered && (yield* tx.tasks.update(task.id, patch, ['leased', 'cancelling']))) || task);
	}
	return accepted;
}

/** Throws UnsignedLoss when one has no closing, or one of the state before. */
function signedOf(lost: readonly TaskRow[], endings: readonly PreparedEnding[]): readonly PreparedEnding[] {
	const byTask = new Map(endings.map((ending) => [ending.task.id, ending]));
	return lost.map(({ id, attempt, state }) => {
		const ending = byTask.get(id);
		if (ending?.task.attempt === attempt && ending.task.state === state) return ending;
		throw new UnsignedLoss(lost);
	});
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
