import { create } from '@bufbuild/protobuf';
import type { CallContext } from '../../control-plane/app/iam/principal.ts';
import { authorizedTarget } from '../../control-plane/app/iam/target.ts';
import { getTask } from '../../control-plane/app/tasks/get.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { GetTaskRequestSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { nodeRow, taskRow } from '../contract/store/rows.ts';
import { IamBench } from './iam-world.ts';
import { percentile, timed } from './measure.ts';
import { atMost, type Row } from './row.ts';

/**
 * What authorization adds to a request: a tenant reads one task, decided inside the read's own snapshot, with n
 * bindings in the store. The reference is the same read of the same row, with nothing decided.
 */
const READS = 200;
const BLOCKS = 25;

export const row: Row = {
	name: 'authorize',
	what: 'a tenant’s read of one task, decided in its snapshot',
	unit: 'us',
	per: 'bindings in the store',
	reference: 'the same read, nothing decided',
	targets: [atMost(50, 'adds <= 50 us', ({ also }) => also.addedUs?.median)],
	sizes: { full: [1000, 10_000, 100_000], quick: [1000, 10_000] },
	repetitions: { full: 5, quick: 3 },
	budgetSeconds: 60,
	async open() {
		const bench = new IamBench();
		await bench.found(100);
		const id = uuidv7(systemClock.now(), systemRng);
		await bench.store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('n'));
			yield* tx.tasks.insert(taskRow(id, 'n', { organization: 'acme', project: 'p7' }));
		});
		return {
			async run(n) {
				await bench.bind(n);
				const { store, policies } = bench;
				const ctx: Pick<CallContext, 'actor'> = { actor: await bench.ada() };
				const request = create(GetTaskRequestSchema, { taskId: id });
				const decided = () =>
					store.read(function* (tx) {
						const view = yield* policies.committed(tx);
						const nowMs = systemClock.now();
						return yield* authorizedTarget(tx, view, ctx as CallContext, getTask.policy, request, nowMs);
					});
				const bare = () => store.read((tx) => tx.tasks.get(id));
				// In turns, so that whatever else the machine does falls on both.
				const blocks: { readonly value: number; readonly reference: number }[] = [];
				for (let block = 0; block < BLOCKS; block += 1)
					blocks.push({ value: await each(decided), reference: await each(bare) });
				const value = percentile(
					blocks.map((block) => block.value),
					50,
				);
				const reference = percentile(
					blocks.map((block) => block.reference),
					50,
				);
				return { value, reference, also: { addedUs: value - reference } };
			},
			[Symbol.asyncDispose]: () => bench[Symbol.asyncDispose](),
		};
	},
};

/** Microseconds of one. */
async function each(work: () => Promise<unknown>): Promise<number> {
	const ms = await timed(async () => {
		for (let done = 0; done < READS; done += 1) await work();
	});
	return (ms * 1000) / READS;
}
