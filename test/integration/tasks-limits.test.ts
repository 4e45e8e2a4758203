import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { TaskReceiptSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

let tasks: TasksWorld;
let nodeId: string;
beforeAll(async () => {
	tasks = await startTasksWorld();
	const node = await tasks.newNode();
	nodeId = node.identity.nodeId;
	await node.start();
});
afterAll(() => tasks[Symbol.asyncDispose]());

async function stdout(id: string): Promise<string> {
	const chunks = await tasks.world.output.read(id, 1);
	return Buffer.concat(chunks.filter(({ stream }) => stream === 'stdout').map(({ data }) => data)).toString();
}

async function receiptOf(id: string) {
	const stored = await tasks.world.store.read((tx) => tx.tasks.getDocuments(id, 1));
	const receipt = present(stored?.receipt, 'the task has a receipt');
	return fromBinary(TaskReceiptSchema, fromBinary(DsseEnvelopeSchema, receipt).payload);
}

test('bounds memory, processes and CPU as far as this host can, and says by what', async () => {
	const limits = { memoryBytes: BigInt(64 << 20), processes: 100, cpuMilli: 500 };
	const limited = (script: string) =>
		tasks.submit(nodeId, { kind: { case: 'run', value: { argv: ['/bin/sh', '-c', script], limits } } });
	const group = '/sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup)';
	const id = await limited(`cat /proc/self/limits; cd ${group} && grep -H . memory.max pids.max cpu.max; true`);
	const { state, limitsEnforcedBy, message } = await tasks.ended(id);
	expect(state).toBe('succeeded');
	await tasks.wait(id, ({ outputComplete }) => outputComplete);
	const shown = await stdout(id);
	if (limitsEnforcedBy === 'cgroup2') {
		expect(shown).toMatch(/^memory.max:67108864\npids.max:100\ncpu.max:50000 100000$/m);
		expect(message).toBe('');
	} else {
		expect(limitsEnforcedBy).toBe('rlimit');
		expect(shown).toMatch(/^Max processes +100 +100 /m);
		expect(shown).toMatch(/^Max data size +67108864 +67108864 /m);
		expect(message).toBe("this host can't enforce: cpuMilli");
	}
	const receipt = await receiptOf(id);
	expect(receipt.outcome).toMatchObject({ limitsEnforcedBy, message });
	// Not only set: a string of 256 MiB ends the program.
	const hungry = await limited('x=$(head -c 268435456 /dev/zero | tr "\\0" x); echo survived');
	expect(await tasks.ended(hungry)).toMatchObject({ state: 'failed', limitsEnforcedBy });
	await tasks.wait(hungry, ({ outputComplete }) => outputComplete);
	expect(await stdout(hungry)).toBe('');
	// Asked for nothing: nothing that couldn't be done.
	const free = await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
	expect(free).toMatchObject({ state: 'succeeded', message: '' });
});
