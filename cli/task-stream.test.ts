import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { GpuaasError } from '../kit/error.ts';
import { FollowTaskResponseSchema, TaskSchema, TaskState } from '../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { exitCodeOf, followTask } from './task-stream.ts';
import { testIo } from './test-io.ts';

type Client = Parameters<typeof followTask>[1];

const expired = () =>
	new GpuaasError({ code: 'UNAUTHENTICATED', reason: 'ACCESS_TOKEN_EXPIRED', message: 'the token is over' });
const state = (value: TaskState) =>
	create(FollowTaskResponseSchema, { event: { case: 'task', value: { state: value } } });
const output = (offset: bigint, text: string) =>
	create(FollowTaskResponseSchema, { event: { case: 'output', value: { offset, data: Buffer.from(text) } } });

/** The stream that the command is given, one after the other. */
function following(streams: (() => AsyncGenerator<ReturnType<typeof state>>)[], asked: bigint[]): Client {
	return {
		async *followTask({ offset = 0n }: { offset?: bigint }) {
			asked.push(offset);
			yield* streams[asked.length - 1]?.() ?? [];
		},
	} as unknown as Client;
}

test('following goes on where it was when the token runs out, and says nothing of it', async () => {
	const asked: bigint[] = [];
	const shown: string[] = [];
	const client = following(
		[
			async function* () {
				yield state(TaskState.RUNNING);
				yield output(0n, 'hel');
				throw expired();
			},
			async function* () {
				yield output(3n, 'lo');
				yield state(TaskState.SUCCEEDED);
			},
		],
		asked,
	);
	const events = {
		output: async ({ data }: { data: Uint8Array }) => void shown.push(Buffer.from(data).toString()),
		outage: async () => void shown.push('outage'),
	};
	const ended = await followTask(testIo(), client, 'id', 0n, events, new AbortController().signal);
	expect(ended?.state).toBe(TaskState.SUCCEEDED);
	expect(shown).toEqual(['hel', 'lo']);
	expect(asked).toEqual([0n, 3n]);
});

test('a token that is refused before anything came ends it', async () => {
	const client = following(
		[
			async function* () {
				throw expired();
			},
		],
		[],
	);
	const follow = followTask(testIo(), client, 'id', 0n, { output: async () => {} }, new AbortController().signal);
	await expect(follow).rejects.toThrow('the token is over');
});

test.each<[string, number, MessageInitShape<typeof TaskSchema>]>([
	['succeeded', 0, { state: TaskState.SUCCEEDED, exitCode: 0 }],
	['failed by itself', 3, { state: TaskState.FAILED, exitCode: 3 }],
	['ended by a signal', 139, { state: TaskState.FAILED, signal: 11 }],
	['ran into its timeout', 124, { state: TaskState.TIMED_OUT, signal: 15 }],
	['was cancelled while it ran', 143, { state: TaskState.CANCELLED, signal: 15 }],
	['was cancelled and ended by itself', 7, { state: TaskState.CANCELLED, exitCode: 7 }],
	['was cancelled while it waited', 125, { state: TaskState.CANCELLED }],
	['was refused', 125, { state: TaskState.REFUSED }],
	['is lost', 125, { state: TaskState.LOST }],
	['was stopped with a full disk', 125, { state: TaskState.FAILED }],
])('a task that %s is exit code %i', (_, code, task) => {
	expect(exitCodeOf(create(TaskSchema, task))).toBe(code);
});

test('a control plane that goes away is asked again, from where its output was', async () => {
	const asked: bigint[] = [];
	const shown: string[] = [];
	const away = () => new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message: 'gone' });
	const client = following(
		[
			async function* () {
				yield output(0n, 'one');
				throw away();
			},
			async function* () {
				throw away();
			},
			async function* () {
				yield output(3n, 'two');
				yield state(TaskState.SUCCEEDED);
			},
		],
		asked,
	);
	const events = {
		output: async ({ data }: { data: Uint8Array }) => void shown.push(Buffer.from(data).toString()),
		outage: async () => void shown.push('outage'),
	};
	const ended = await followTask(testIo(), client, 'id', 0n, events, new AbortController().signal);
	expect(ended?.state).toBe(TaskState.SUCCEEDED);
	expect(shown).toEqual(['one', 'outage', 'two']);
	expect(asked).toEqual([0n, 3n, 3n]);
});
