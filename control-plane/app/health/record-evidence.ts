import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { isUuid, uuidv7 } from '../../../kit/ids.ts';
import {
	HealthService,
	RecordNodeHealthEvidenceResponseSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import type { HealthEvidenceRow } from '../../store/port/node-health.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { NOT_RETIRED } from '../nodes/gates.ts';
import { mutation } from '../use-case.ts';
import { risingId } from './rising-id.ts';
import { clearingName, subjectKindName } from './wire.ts';

/** Told to whoever judges: something of the node was recorded. */
export const HEALTH_RECORD_TOPIC = 'nodes.health_record';
const EVIDENCE_MAX = 512;

/** Throws HEALTH_EVIDENCE_INVALID. */
const BELIEVED: Gate<'node'> = {
	gate: 'custody',
	check(_tx, { target: { node } }) {
		if (node.custody !== 'platform')
			throw invalid('the node is not in platform custody: nothing that is found there ends what the platform saw');
		return 'it is in platform custody';
	},
};

/**
 * What the platform did or found out. A reset and a diagnostic are shown by a task that ran on this node in platform
 * custody, began after the verdict was what it is now, and succeeded: its receipt is signed. That somebody worked on the
 * hardware is a person's word.
 */
export const recordNodeHealthEvidence = mutation('node', HealthService.method.recordNodeHealthEvidence, {
	prepare: ({ deps, nowMs }) => uuidv7(nowMs, deps.rng),
	gates: [NOT_RETIRED, BELIEVED],
	*apply(tx, { ctx, request, nowMs }, { node }, freshId) {
		const clearing = clearingName(request.clearing) ?? '';
		const subject = request.subject;
		const kind = subject === undefined ? 'node' : subjectKindName(subject.kind);
		if (kind === undefined) throw invalid('it is about something that has no verdict: node, GPU, slice, NIC or link');
		if (kind !== 'node' && (subject?.id ?? '') === '') throw invalid(`it names no ${kind}`);
		if (clearing === 'gpu_reset' && kind !== 'gpu') throw invalid('a reset is of one GPU: name it (--gpu)');
		if (clearing !== 'serviced') yield* checkTask(tx, node, request.taskId);
		const last = (yield* tx.nodeHealth.evidenceAfter(node.id, '', EVIDENCE_MAX)).at(-1);
		const id = risingId(freshId, last?.id ?? '');
		const row: HealthEvidenceRow = {
			id,
			nodeId: node.id,
			clearing,
			kind,
			subjectId: kind === 'node' ? '' : (subject?.id ?? ''),
			subjectIndex: kind === 'node' ? 0 : (subject?.index ?? 0),
			taskId: clearing === 'serviced' ? '' : request.taskId,
			reason: request.reason,
			createdBy: ctx.actor.id,
			atMs: nowMs,
		};
		yield* tx.nodeHealth.insertEvidence(row, EVIDENCE_MAX);
		return {
			response: create(RecordNodeHealthEvidenceResponseSchema, { evidenceId: id }),
			audit: {
				action: 'health.evidence',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				custody: node.custody,
				detail: { name: node.name, clearing, subject: `${kind}/${row.subjectId}`, task: row.taskId },
				personal: { reason: request.reason },
			},
			events: [{ topic: HEALTH_RECORD_TOPIC, key: node.id }],
		};
	},
});

function* checkTask(tx: Tx, node: NodeRow, taskId: string): Plan<void> {
	if (taskId === '') throw invalid('it names no task that shows it; run it as a task and give its id');
	const task = isUuid(taskId) ? yield* tx.tasks.get(taskId) : undefined;
	if (task === undefined || task.nodeId !== node.id) throw invalid('there is no such task on this node');
	if (task.kind !== 'run') throw invalid(`the task ran no program: it is of the kind ${task.kind}`);
	if (task.state !== 'succeeded') throw invalid(`the task has not succeeded: it is ${task.state}`);
	if (task.custody !== 'platform') throw invalid('the task ran while the node was not in platform custody');
	const verdict = yield* tx.nodeHealth.get(node.id);
	const sinceMs = Math.max(verdict?.sinceMs ?? 0, verdict?.quarantinedAtMs ?? 0);
	if ((task.startedAtMs ?? 0) < sinceMs)
		throw invalid('the task began before the node was as it is now, so it shows nothing of it; run it again');
}

function invalid(problem: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'HEALTH_EVIDENCE_INVALID',
		message: `this is no evidence: ${problem}. Nothing was recorded; see: gpuaas health evidence --help`,
	});
}
