import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { OutputHello } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { AppDeps } from '../deps.ts';
import { storedBytesMax } from './output-chunk.ts';
import type { OutputChunk } from './output-store.ts';

/**
 * The output of one attempt, streamed by the agent on a connection for bulk. An upload that breaks goes on where the
 * store ends; a second one at the same time is harmless, because overlap is ignored. Called by the gateway.
 */
export interface OutputUpload {
	/** Where the agent goes on. */
	readonly storedOffset: bigint;
	/** All of it is here already. */
	readonly complete: boolean;
	/**
	 * Appends what follows on; durable only after `sync`, which may run beside the next append. Throws OUTPUT_TOO_LARGE
	 * past what the task may have: then nothing more is taken, and what is stored ends with a gap.
	 */
	append(chunks: readonly OutputChunk[]): Promise<void>;
	/** Makes durable what was appended before; returns the offset below which everything is. */
	sync(): Promise<bigint>;
	/** The agent has no more; returns whether the whole output is durable. */
	end(nextOffset: bigint): Promise<boolean>;
}

/** Throws NOT_FOUND for a task of another node, FAILED_PRECONDITION for an attempt that isn't the newest. */
export async function openUpload(
	deps: AppDeps,
	ctx: RequestContext,
	nodeId: string,
	hello: OutputHello,
): Promise<OutputUpload> {
	const { taskId, attempt } = hello;
	const task = await deps.store.read((tx) => tx.tasks.get(taskId));
	if (task === undefined || task.nodeId !== nodeId) throw notFound(taskId);
	if (task.attempt !== attempt || BigInt(task.fencingToken) !== hello.fencingToken) throw staleAttempt(taskId, attempt);
	await deps.output.check();
	const storedOffset = await deps.output.storedOffset(taskId, attempt);
	let complete = task.outputComplete;
	let appendedOffset = storedOffset;
	let durableOffset = storedOffset;
	const sync = async () => {
		const offset = appendedOffset;
		await deps.output.sync(taskId, attempt);
		durableOffset = Math.max(durableOffset, offset);
		deps.bus.publish({ topic: 'tasks.output', key: taskId });
	};
	return {
		storedOffset: BigInt(storedOffset),
		complete,
		async append(chunks) {
			// A complete output is closed: a second upload of it changes nothing.
			if (complete) return;
			try {
				appendedOffset = await deps.output.append(taskId, attempt, chunks, storedBytesMax(task.outputBytesMax));
			} catch (error) {
				if (!(error instanceof GpuaasError) || error.reason !== 'OUTPUT_TOO_LARGE') throw error;
				appendedOffset = await deps.output.storedOffset(taskId, attempt);
				await sync();
				// Closed, so that those who follow it don't wait for more.
				await markComplete(deps, taskId, attempt);
				complete = true;
				throw error;
			}
		},
		async sync() {
			if (!complete) await sync();
			return BigInt(durableOffset);
		},
		async end(nextOffset) {
			if (complete) return true;
			await sync();
			const stored = await deps.output.storedOffset(taskId, attempt);
			if (BigInt(stored) !== nextOffset) {
				const about = { task: taskId, correlation_id: task.correlationId };
				ctx.log.warn('an output ended at another offset than what is stored', { ...about, stored, nextOffset });
				return false;
			}
			await markComplete(deps, taskId, attempt);
			complete = true;
			return true;
		},
	};
}

async function markComplete(deps: AppDeps, taskId: string, attempt: number): Promise<void> {
	const atMs = deps.clock.now();
	const id = uuidv7(atMs, deps.rng);
	await deps.store.unit(function* (tx) {
		const task = yield* tx.tasks.get(taskId);
		if (task === undefined || task.attempt !== attempt || task.outputComplete) return;
		yield* tx.tasks.update(taskId, { outputComplete: true });
		yield* tx.outbox.append({ id, topic: 'tasks.changed', key: taskId, atMs });
	});
	deps.bus.publish({ topic: 'tasks.changed', key: taskId });
}

function notFound(taskId: string): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'TASK_NOT_FOUND',
		message: `this node has no task ${taskId}: nobody wants its output, and the agent may drop it`,
	});
}

function staleAttempt(taskId: string, attempt: number): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'TASK_ENDED',
		message: `attempt ${attempt} of task ${taskId} is not its newest: its output is not wanted any more`,
	});
}
