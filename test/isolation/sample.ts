import { create, toBinary } from '@bufbuild/protobuf';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import type { Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { assert } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { assignmentRow, nodeRow, operationRow, taskRow } from '../contract/store/rows.ts';
import type { SampleIds } from '../integration/api-samples.ts';
import type { ApiWorld } from '../integration/api-world.ts';
import { insertIamSample } from '../integration/iam-sample.ts';
import { addTerminal } from '../integration/terminal-samples.ts';

/** One of everything that a tenant can have, in a project of its own; ids are those that requests name. */
export interface Sample extends SampleIds {
	readonly organization: string;
	readonly batchId: string;
	readonly approvalId: string;
	/** A key of the owner's own. */
	readonly ownKeyId: string;
	/** Beside the task and the terminal that have ended, whose streams end: those that can still be changed. */
	readonly queuedTaskId: string;
	readonly openTerminalId: string;
}

export async function addSample(world: ApiWorld, organization: string, ownerId: string): Promise<Sample> {
	const { clock, rng, store } = world.deps;
	const id = () => uuidv7(clock.now(), rng);
	const [node, taskId, operationId, recordingId, approvalId, assignmentId] = [id(), id(), id(), id(), id(), id()];
	const suffix = node.slice(-12);
	const project = `p${suffix}`;
	const owned = { assignmentId, organization, project };
	const nowMs = clock.now();
	const [batchId, ownKeyId, queuedTaskId] = [`batch-${suffix}`, `mykey-${suffix}`, id()];
	const iam = await store.unit(function* (tx) {
		const sample = yield* insertIamSample(tx, organization, project, suffix);
		yield* tx.nodes.insert(nodeRow(node, { name: `node-${suffix}`, serial: suffix, ...READY }));
		yield* tx.assignments.insert(assignmentRow(assignmentId, node, { ...owned, mode: 'operator' }));
		const ended = { state: 'succeeded', endedAtMs: nowMs, outputComplete: true, attempt: 1, exitCode: 0 } as const;
		const spec = toBinary(
			TaskSpecSchema,
			create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['/bin/true'] } } }),
		);
		yield* tx.tasks.insert(taskRow(taskId, node, { spec, ...ended, ...owned, batchId, createdBy: ownerId }));
		yield* tx.tasks.insert(taskRow(queuedTaskId, node, { spec, ...owned, createdBy: ownerId, ...NOT_YET_DUE }));
		yield* tx.operations.insert(operationRow(operationId, node));
		yield* insertRecording(tx, { id: recordingId, nodeId: node, nodeName: `node-${suffix}`, ...owned });
		yield* tx.approvals.insert({
			id: approvalId,
			requesterId: `account-${suffix}`,
			scope: sample.scope,
			method: 'gpuaas.iam.v1.ScopeService/MoveScope',
			digestSha256: new Uint8Array(32),
			summary: '{}',
			reason: 'sample',
			state: 'pending',
			createdAtMs: nowMs,
			expiresAtMs: nowMs + 3_600_000,
			decidedBy: null,
			decidedAtMs: null,
			decisionReason: '',
			consumedAtMs: null,
			version: 1,
		});
		yield* tx.apiKeys.insert({
			id: ownKeyId,
			principalId: ownerId,
			displayName: 'own',
			permissions: [],
			scope: '',
			cidrs: [],
			createdAtMs: nowMs,
			createdBy: ownerId,
			revokedAtMs: null,
			revokedReason: '',
			version: 1,
		});
		return sample;
	});
	const terminalId = await addTerminal(world, node, ownerId);
	const live = { state: 'open', closedAtMs: null, expiresAtMs: nowMs + 3_600_000, reason: '', exitCode: null } as const;
	const openTerminalId = await addTerminal(world, node, ownerId, live);
	connect(world, node);
	const made = {
		node,
		taskId,
		operationId,
		recordingId,
		terminalId,
		approvalId,
		batchId,
		ownKeyId,
		iam,
		organization,
		queuedTaskId,
		openTerminalId,
	};
	return { ...made, tokenId: id(), serial: 'ab'.repeat(16), etag: 'v1' };
}

const READY = { state: 'available', cordoned: false, locked: false, lastSeenAtMs: 1 } as const;
const NOT_YET_DUE = { queueDeadlineMs: Number.MAX_SAFE_INTEGER } as const;

/** A session that takes every command: what is judged here comes before the agent's answer. */
function connect({ deps: { sessions } }: ApiWorld, nodeId: string): void {
	assert(sessions instanceof SessionRegistry, 'an API world has a registry of its own');
	sessions.add({ nodeId, epoch: 1, serial: '', command: () => true, close: () => {} });
}

/** Ids of the same form that nobody has. */
export function nobodys(world: ApiWorld): Sample {
	const { clock, rng } = world.deps;
	const id = () => uuidv7(clock.now(), rng);
	const node = id();
	const suffix = node.slice(-12);
	return {
		organization: 'nobody',
		node,
		taskId: id(),
		operationId: id(),
		recordingId: id(),
		terminalId: id(),
		approvalId: id(),
		tokenId: id(),
		serial: 'cd'.repeat(16),
		etag: 'v1',
		batchId: `batch-${suffix}`,
		ownKeyId: `mykey-${suffix}`,
		queuedTaskId: id(),
		openTerminalId: id(),
		iam: { scope: `organizations/nobody/projects/p${suffix}`, suffix, userId: `user-${suffix}` },
	};
}

function* insertRecording(
	tx: Tx,
	of: {
		readonly id: string;
		readonly nodeId: string;
		readonly nodeName: string;
		readonly assignmentId: string;
		readonly organization: string;
		readonly project: string;
	},
): Plan<void> {
	yield* tx.recordings.insert({
		...of,
		terminalId: of.id,
		part: 1,
		state: 'sealed',
		createdBy: 'ada',
		accountName: 'ubuntu',
		replicaId: 'replica-1',
		inputRecorded: false,
		custody: 'platform',
		generation: 1,
		startedAtMs: 1,
		endedAtMs: 2,
		truncated: '',
		bytes: 0,
		events: 0,
		sha256: '',
		manifest: null,
		purgedAtMs: null,
		heldAtMs: null,
		holdReason: '',
		gaps: 0,
		gapBytes: 0,
	});
}
