import { assert } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { BenchChild } from './child.ts';
import { cpuPerTask } from './cpu.ts';
import { percentile } from './measure.ts';
import { Product } from './product.ts';
import { atMost, type Row } from './row.ts';

/**
 * One `/bin/true` after another through the whole product as `gpuaas up` runs it: from the call of CreateTask until
 * FollowTask tells of its durable, signed end. n is how many, the value their median. The reference is the median of
 * starting the same program from a small process, without anybody who remembers it.
 */
export const row: Row = {
	name: 'task-serial',
	what: 'submit -> durable result of /bin/true, median of n in a row',
	unit: 'ms',
	per: 'tasks',
	reference: 'child_process.spawn of /bin/true from a small process, median of n',
	targets: [atMost(10, 'p50 <= 10 ms', ({ n, value }) => (n >= 30 ? value.median : undefined))],
	// Streams are limited to 100 a second for one principal: longer runs would measure that.
	sizes: { full: [3, 30, 300], quick: [3, 30] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 45,
	async open() {
		const product = await Product.open();
		const small = new BenchChild('./spawn-main.ts', {});
		await small.ready;
		const one = async () => {
			const startedMs = systemClock.monotonic();
			const taskId = await product.submit('serial');
			let state: TaskState = TaskState.UNSPECIFIED;
			for await (const { event } of product.tasks.followTask({ taskId }))
				if (event.case === 'task') state = event.value.state;
			const ms = systemClock.monotonic() - startedMs;
			assert(state === TaskState.SUCCEEDED, 'the task succeeded');
			return ms;
		};
		for (let done = 0; done < 20; done += 1) await one();
		return {
			async run(n) {
				const ms: number[] = [];
				const before = product.cpuUs();
				for (let done = 0; done < n; done += 1) ms.push(await one());
				const cpu = cpuPerTask(before, product.cpuUs(), n);
				const bareMs = await small.ask<readonly number[]>({ count: n });
				return {
					value: percentile(ms, 50),
					reference: percentile(bareMs, 50),
					also: { p99Ms: percentile(ms, 99), bareP99Ms: percentile(bareMs, 99), ...cpu },
				};
			},
			async [Symbol.asyncDispose]() {
				await small[Symbol.asyncDispose]();
				await product[Symbol.asyncDispose]();
			},
		};
	},
};
