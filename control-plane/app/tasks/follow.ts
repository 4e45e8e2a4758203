import { create } from '@bufbuild/protobuf';
import type { Clock } from '../../../kit/clock.ts';
import {
	type FollowTaskResponse,
	FollowTaskResponseSchema,
	TaskService,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { Bus } from '../../bus/bus.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { stream } from '../use-case.ts';
import { chunkMessage, isOutputOver, taskMessage } from './view.ts';

/** What is read from the output store at once; nothing is read ahead of what the client has taken. */
const CHUNK_BYTES_MAX = 64 * 1024;
/** Hints make it quick; this makes it certain. */
const POLL_MS = 1000;

/**
 * The task whenever its state changes, and its output as it arrives. Each look reads the store, decides again whether
 * the caller may still see the task, and sends what is new. Output of an earlier attempt isn't mixed with a later one's:
 * a new attempt starts at offset 0.
 */
export const followTask = stream('task', TaskService.method.followTask, {
	async *events({ deps, ctx, request }, first, decideAgain) {
		const wake = new Wake(deps.bus, deps.clock, ctx.signal, first.task.id);
		try {
			const nodeName = await deps.store.read((tx) => nameOfNode(tx, first.task.nodeId));
			let { task } = first;
			let shown = '';
			let attempt = task.attempt;
			let offset = Number(request.offset);
			for (;;) {
				if (task.attempt !== attempt) {
					if (attempt !== 0) offset = 0;
					attempt = task.attempt;
				}
				const chunks = await deps.output.read(task.id, attempt, offset, CHUNK_BYTES_MAX);
				// The end comes last, when its output is here; an end whose output is still on its way is told at once.
				const isEarly = isOutputOver(task) && chunks.length > 0;
				if (shown !== versionOf(task) && !isEarly) {
					shown = versionOf(task);
					yield event(task, nodeName);
				}
				for (const chunk of chunks) {
					yield create(FollowTaskResponseSchema, { event: { case: 'output', value: chunkMessage(chunk) } });
					offset = chunk.offset + chunk.data.length;
				}
				if (chunks.length === 0) {
					if (isOutputOver(task)) return;
					await wake.wait();
				}
				// The reason of the signal tells the caller: gone, out of time, or this replica is shutting down.
				ctx.signal.throwIfAborted();
				wake.reset();
				({ task } = await decideAgain());
			}
		} finally {
			wake.close();
		}
	},
});

function event(task: TaskRow, nodeName: string): FollowTaskResponse {
	return create(FollowTaskResponseSchema, { event: { case: 'task', value: taskMessage(task, nodeName) } });
}

/** Changes when something changed that a follower is told. */
function versionOf(task: TaskRow): string {
	return [task.state, task.attempt, task.reason, task.startedAtMs, task.endedAtMs, task.cancelRequestedAtMs].join('/');
}

/** Resolves at a hint about one task, after the poll period, or when the caller goes; a hint before the wait counts. */
class Wake {
	readonly #clock: Clock;
	readonly #signal: AbortSignal;
	readonly #unsubscribe: (() => void)[];
	/** At first as if it rang: what changed between the first look and the subscription must not wait for the poll. */
	#pending = true;
	#resolve: (() => void) | undefined;
	readonly #ring = () => {
		this.#pending = true;
		this.#resolve?.();
	};

	constructor(bus: Bus, clock: Clock, signal: AbortSignal, taskId: string) {
		this.#clock = clock;
		this.#signal = signal;
		const listener = ({ key }: { readonly key: string }) => {
			if (key === taskId) this.#ring();
		};
		this.#unsubscribe = ['tasks.changed', 'tasks.output'].map((topic) => bus.subscribe(topic, listener));
		signal.addEventListener('abort', this.#ring, { once: true });
	}

	/** Before looking: what rings from now on ends the next wait. */
	reset(): void {
		this.#pending = false;
	}

	async wait(): Promise<void> {
		if (this.#pending || this.#signal.aborted) return;
		const timer = this.#clock.setTimer(this.#ring, POLL_MS);
		await new Promise<void>((resolve) => {
			this.#resolve = resolve;
		});
		this.#resolve = undefined;
		timer.cancel();
	}

	close(): void {
		for (const unsubscribe of this.#unsubscribe) unsubscribe();
		this.#signal.removeEventListener('abort', this.#ring);
	}
}
