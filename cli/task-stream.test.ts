import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { GpuaasError } from '../kit/error.ts';
import { FollowTaskResponseSchema, TaskState } from '../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { followTask } from './task-stream.ts';
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
