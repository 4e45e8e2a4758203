import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { dssePae } from '../../pki/verify/dsse.ts';
import { TASK_RECEIPT_TYPE } from '../../pki/verify/task.ts';
import { type Fact, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type TaskOutcome, TaskReceiptSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { OutputChunk } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { AttemptRow } from '../journal/journal.ts';
import type { StartedInfo } from './process-host.ts';

/** The facts about an attempt, as they go into the journal; the journal numbers them. */
export interface FactContext {
	readonly nowMs: number;
	readonly correlationId: string;
}

export interface AttemptName {
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: bigint;
}

const MESSAGE_LENGTH_MAX = 1024;

export function acceptedFact(context: FactContext, name: AttemptName): Fact {
	const { taskId, attempt, fencingToken } = name;
	return fact(context, { case: 'taskAccepted', value: { taskId, attempt, fencingToken } });
}

export interface Refusal {
	readonly reason: string;
	readonly message: string;
	readonly retryable: boolean;
}

export function refusedFact(context: FactContext, name: AttemptName, refusal: Refusal): Fact {
	const { taskId, attempt, fencingToken } = name;
	const message = refusal.message.slice(0, MESSAGE_LENGTH_MAX);
	return fact(context, { case: 'taskRefused', value: { taskId, attempt, fencingToken, ...refusal, message } });
}

export function startedFact(context: FactContext, name: AttemptName, started: StartedInfo | undefined): Fact {
	const { taskId, attempt, fencingToken } = name;
	const pid = started?.pid ?? 0;
	const limitsEnforcedBy = started?.limits ?? '';
	return fact(context, { case: 'taskStarted', value: { taskId, attempt, fencingToken, pid, limitsEnforcedBy } });
}

export interface Finish {
	readonly outcome: TaskOutcome;
	/** All kept output; undefined when it goes by a stream of its own. */
	readonly output: readonly OutputChunk[] | undefined;
}

export interface Signatory {
	readonly identity: Pick<AgentIdentity, 'nodeId' | 'generation' | 'sign'>;
	readonly agentVersion: string;
	readonly bootId: string;
}

/** Signs the one receipt of an attempt, linked to the envelope that ordered it. */
export function finishedFact(context: FactContext, row: AttemptRow, finish: Finish, signatory: Signatory): Fact {
	const { taskId, attempt, fencingToken, envelopeSha256 } = row;
	const { identity, agentVersion, bootId } = signatory;
	const payload = toBinary(
		TaskReceiptSchema,
		create(TaskReceiptSchema, {
			taskId,
			nodeId: identity.nodeId,
			generation: identity.generation,
			attempt,
			fencingToken,
			envelopeSha256,
			outcome: finish.outcome,
			agentVersion,
			bootId,
		}),
	);
	const { keyId, signature, certificate } = identity.sign(dssePae(TASK_RECEIPT_TYPE, payload));
	return fact(context, {
		case: 'taskFinished',
		value: {
			taskId,
			attempt,
			fencingToken,
			receipt: { payloadType: TASK_RECEIPT_TYPE, payload, signatures: [{ keyid: keyId, sig: signature }] },
			certificate,
			output: [...(finish.output ?? [])],
			outputInline: finish.output !== undefined,
		},
	});
}

export function auditFact(context: FactContext, action: string, detail: string): Fact {
	return fact(context, { case: 'agentAudit', value: { action, detail: detail.slice(0, MESSAGE_LENGTH_MAX) } });
}

type FactInit = NonNullable<Parameters<typeof create<typeof FactSchema>>[1]>['fact'];

function fact({ nowMs, correlationId }: FactContext, inner: NonNullable<FactInit>): Fact {
	return create(FactSchema, { at: timestampFromMs(nowMs), correlationId, fact: inner });
}
