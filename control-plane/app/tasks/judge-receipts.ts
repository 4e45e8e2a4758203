import { GpuaasError, messageOf } from '../../../kit/error.ts';
import type { Fact, TaskFinished } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { OutputChunk as ChunkMessage } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { AppDeps } from '../deps.ts';
import { checkChunk, storedBytesMax } from './output-chunk.ts';
import type { OutputChunk } from './output-store.ts';
import { bringsItsOutput, isSameAttempt, type TaskFact } from './transition.ts';
import { serialOf, type VerifySignatures, verifyReceipt } from './verify-receipt.ts';

/** What must happen before the unit for every finish in a batch: check the signature, keep the output. */
export type Judgement = Extract<TaskFact, { readonly kind: 'finished' | 'receipt-invalid' }>;

interface Finish {
	readonly fact: Fact;
	readonly finished: TaskFinished;
	readonly serial: string;
	task?: TaskRow | undefined;
	envelope?: Uint8Array | null | undefined;
	certificate?: CertificateRow | undefined;
}

/** By fact number; a finish that concerns no attempt of this node's tasks isn't in it. */
export async function judgeReceipts(
	deps: AppDeps,
	ctx: RequestContext,
	nodeId: string,
	facts: readonly Fact[],
	verify: VerifySignatures,
): Promise<ReadonlyMap<bigint, Judgement>> {
	const finishes = facts.flatMap((fact) =>
		fact.fact.case === 'taskFinished' ? [finishOf(fact, fact.fact.value)] : [],
	);
	const judgements = new Map<bigint, Judgement>();
	if (finishes.length === 0) return judgements;
	await readEvidence(deps, finishes);
	await Promise.all(
		finishes.map(async (finish) => {
			const { fact, finished, task } = finish;
			if (task === undefined || task.nodeId !== nodeId || !isSameAttempt(task, finished)) return;
			const { certificate, envelope } = finish;
			const verdict = await verifyReceipt(fact, finished, { nodeId, certificate, envelope }, verify);
			if (verdict.kind === 'invalid') {
				const about = { node: nodeId, task: task.id, correlation_id: task.correlationId };
				ctx.log.warn('refused a receipt', { ...about, message: verdict.message });
				judgements.set(fact.seq, { kind: 'receipt-invalid', message: verdict.message });
				return;
			}
			const { outcome } = verdict;
			const stored = bringsItsOutput(finished, outcome) && (await keepOutput(deps, ctx, task, finished));
			judgements.set(fact.seq, { kind: 'finished', outcome, stored });
		}),
	);
	return judgements;
}

function finishOf(fact: Fact, finished: TaskFinished): Finish {
	return { fact, finished, serial: serialOf(finished) };
}

async function readEvidence(deps: AppDeps, finishes: readonly Finish[]): Promise<void> {
	await deps.store.read(function* (tx) {
		const certificates = new Map<string, CertificateRow | undefined>();
		for (const finish of finishes) {
			const { serial, finished } = finish;
			if (!certificates.has(serial)) certificates.set(serial, yield* tx.certificates.get(serial));
			finish.certificate = certificates.get(serial);
			finish.task = yield* tx.tasks.get(finished.taskId);
			if (finish.task === undefined) continue;
			const documents = yield* tx.tasks.getDocuments(finished.taskId, finished.attempt);
			finish.envelope = documents?.envelope;
		}
	});
}

/** Durable before the fact is acknowledged, because the agent then forgets it. */
async function keepOutput(deps: AppDeps, ctx: RequestContext, task: TaskRow, finished: TaskFinished): Promise<boolean> {
	const { taskId, attempt, output } = finished;
	if (output.length === 0) return true;
	try {
		await deps.output.append(taskId, attempt, checkedChunks(output), storedBytesMax(task.outputBytesMax));
		await deps.output.sync(taskId, attempt);
		return true;
	} catch (error) {
		// A full or broken disk: the agent keeps the fact and sends it again. Anything else would come again for ever.
		if (error instanceof GpuaasError && (error.code === 'RESOURCE_EXHAUSTED' || error.code === 'UNAVAILABLE'))
			throw error;
		if (error instanceof GpuaasError && error.reason === 'OUTPUT_TOO_LARGE') {
			ctx.log.warn('the output of a task was cut', { task: taskId, error: messageOf(error) });
			await deps.output.sync(taskId, attempt);
			// Nothing more will come, and what is stored says itself that it was cut.
			return true;
		}
		const about = { task: taskId, correlation_id: task.correlationId };
		ctx.log.error('the output of a task could not be stored', { ...about, error: messageOf(error) });
		return false;
	}
}

function checkedChunks(messages: readonly ChunkMessage[]): readonly OutputChunk[] {
	let endOffset = 0;
	return messages.map((message) => {
		const checked = checkChunk(message, endOffset);
		if (checked.kind === 'invalid')
			throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message: checked.message });
		endOffset = checked.chunk.offset + checked.chunk.data.length;
		return checked.chunk;
	});
}
