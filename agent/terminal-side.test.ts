import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { CommandSchema } from '../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { CommandSink, DeclinedOffer } from './control/command-sink.ts';
import { withChannels } from './terminal-side.ts';

test('channels go their own way, and all else reaches the tasks and comes back from them', () => {
	const seen: string[] = [];
	const offer = { taskId: 'task', attempt: 1, fencingToken: 1n, reason: 'DISK_FULL', message: '', retryable: true };
	const declined: readonly DeclinedOffer[] = [offer];
	const tasks: Required<CommandSink> = {
		handle: ({ command }) => void seen.push(`handle ${command.case}`),
		commit: () => void seen.push('commit'),
		takeDeclined: () => declined,
		welcomed: (fencingSeq) => void seen.push(`welcomed ${fencingSeq}`),
		attempts: () => [{ taskId: 'task', attempt: 1 }],
		runningCount: () => 3,
	};
	const sink = withChannels(tasks, ({ grant }) => void seen.push(`channel ${grant?.payloadType}`));
	sink.handle(create(CommandSchema, { command: { case: 'taskCancel', value: {} } }));
	sink.handle(create(CommandSchema, { command: { case: 'channelOpen', value: { grant: { payloadType: 'c' } } } }));
	sink.commit?.();
	sink.welcomed?.(7n);
	expect(seen).toEqual(['handle taskCancel', 'channel c', 'commit', 'welcomed 7']);
	expect(sink.takeDeclined()).toBe(declined);
	expect(sink.attempts()).toEqual([{ taskId: 'task', attempt: 1 }]);
	expect(sink.runningCount()).toBe(3);
});
