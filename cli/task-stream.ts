import type { Client } from '@connectrpc/connect';
import { sleep } from '../kit/clock.ts';
import { GpuaasError } from '../kit/error.ts';
import { Backoff } from '../kit/retry.ts';
import {
	type OutputChunk,
	OutputStream,
	type Task,
	type TaskService,
	TaskState,
} from '../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { EXIT } from './exit-codes.ts';
import { type Io, write } from './io.ts';
import { hasOutlivedToken } from './oidc/outlived.ts';

const ENDED: ReadonlySet<TaskState> = new Set([
	TaskState.SUCCEEDED,
	TaskState.FAILED,
	TaskState.CANCELLED,
	TaskState.TIMED_OUT,
	TaskState.LOST,
	TaskState.REFUSED,
]);

export function hasEnded(task: Task): boolean {
	return ENDED.has(task.state);
}

/** How long a control plane that went away may stay away before following gives up. */
const OUTAGE_MAX_MS = 600_000;

export interface FollowEvents {
	task?(task: Task): Promise<void>;
	output(chunk: OutputChunk): Promise<void>;
	/** The stream broke and is tried again from where it was. */
	outage?(error: GpuaasError): Promise<void>;
}

/**
 * Follows a task to its end, from `offset`, through restarts of the control plane: nothing is printed twice and nothing
 * is left out. Returns the ended task, or undefined when `signal` aborted first.
 */
export async function followTask(
	io: Io,
	client: Client<typeof TaskService>,
	taskId: string,
	offset: bigint,
	events: FollowEvents,
	signal: AbortSignal,
): Promise<Task | undefined> {
	const backoff = new Backoff({ baseMs: 200, maxMs: 5000, floorMs: 50 }, io.rng);
	let outageSinceMs: number | undefined;
	let next = offset;
	let last: Task | undefined;
	while (!signal.aborted) {
		let isFollowing = false;
		try {
			for await (const { event } of client.followTask({ taskId, offset: next }, { signal })) {
				isFollowing = true;
				outageSinceMs = undefined;
				backoff.reset();
				if (event.case === 'task') {
					last = event.value;
					await events.task?.(last);
				} else if (event.case === 'output') {
					await events.output(event.value);
					next = event.value.offset + BigInt(event.value.data.length);
				}
			}
			if (last !== undefined && hasEnded(last)) return last;
		} catch (thrown) {
			if (signal.aborted) return undefined;
			const error = GpuaasError.from(thrown);
			// The next attempt goes with a refreshed one; where that can't be had, it says so itself.
			if (isFollowing && hasOutlivedToken(error)) continue;
			const nowMs = io.clock.monotonic();
			const first = outageSinceMs === undefined;
			outageSinceMs ??= nowMs;
			if (!isOutage(error) || nowMs - outageSinceMs > OUTAGE_MAX_MS) throw thrown;
			if (first) await events.outage?.(error);
		}
		await sleep(io.clock, backoff.nextMs(), signal);
	}
	return undefined;
}

function isOutage(error: GpuaasError): boolean {
	return error.code === 'UNAVAILABLE' || error.code === 'RESOURCE_EXHAUSTED' || error.code === 'CANCELLED';
}

/** Copies bytes as they are: stdout to stdout, stderr to stderr. */
export async function copyOutput(io: Io, chunk: OutputChunk): Promise<void> {
	if (chunk.droppedBytes > 0n) {
		await write(io.stderr, `gpuaas: ${chunk.droppedBytes} bytes of output beyond the cap were left out here\n`);
	}
	await write(chunk.stream === OutputStream.STDERR ? io.stderr : io.stdout, chunk.data);
}

/** One chunk as a line of NDJSON: bytes in base64, because output need not be text. */
export function outputEvent(taskId: string, chunk: OutputChunk) {
	return {
		event: 'output',
		taskId,
		stream: chunk.stream === OutputStream.STDERR ? 'stderr' : 'stdout',
		offset: Number(chunk.offset),
		base64: Buffer.from(chunk.data).toString('base64'),
	};
}

/** What a shell would exit with: the program's code, 128 + signal, 124 after a timeout, 125 when it was not run. */
export function exitCodeOf(task: Task): number {
	if (task.state === TaskState.TIMED_OUT) return EXIT.timeout;
	if (task.state === TaskState.CANCELLED && task.signal === undefined && task.exitCode === undefined)
		return EXIT.taskFailed;
	if (task.signal !== undefined) return EXIT.signalBase + task.signal;
	if (task.exitCode !== undefined) return task.exitCode;
	return task.state === TaskState.SUCCEEDED ? EXIT.ok : EXIT.taskFailed;
}
