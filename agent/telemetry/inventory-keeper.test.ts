import { expect, test } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { MachineFacts } from '../platform/machine-facts.ts';
import type { GpuInputs } from './inventory.ts';
import { gpu, MACHINE } from './inventory-fixture.ts';
import { InventoryKeeper } from './inventory-keeper.ts';

const HOUR_MS = 3_600_000;

/** On a host that has as many GPUs as it is told; undefined: the probe is on its way. */
function start(readMachine: () => Promise<MachineFacts | undefined>) {
	const clock = new VirtualClock();
	const host: { gpus: number | undefined } = { gpus: 1 };
	const stored: { readonly gpus: number; readonly board: string }[] = [];
	const keeper = new InventoryKeeper({
		...{ clock, log: silentLogger, bootId: 'boot', procRoot: '/nonexistent', sysRoot: '/nonexistent' },
		kept: undefined,
		readMachine,
		readGpus: async (): Promise<GpuInputs | undefined> =>
			host.gpus === undefined
				? undefined
				: {
						kind: 'read',
						gpus: Array.from({ length: host.gpus }, (_, index) => gpu(index)),
						driver: { driver: '1', nvml: '', cuda: 0, isSimulated: false, missing: [] },
						source: 'nvml',
					},
		store: ({ inventory }) =>
			void stored.push({ gpus: inventory?.gpus.length ?? 0, board: inventory?.board?.vendor ?? '' }),
	});
	return { clock, host, stored, keeper };
}

test('a list of GPUs that changes while the inventory is read is read again with the next sample', async () => {
	const firmware = Promise.withResolvers<undefined>();
	const { clock, host, stored, keeper } = start(() => firmware.promise);
	const first = keeper.look(true);
	await Promise.resolve();
	host.gpus = 2;
	clock.advance(1000);
	await keeper.look(true);
	firmware.resolve(undefined);
	await first;
	clock.advance(15_000);
	await keeper.look(false);
	expect(stored.map(({ gpus }) => gpus)).toEqual([1, 2]);
});

test('while the probe is on its way it is asked with each sample, and then once an hour', async () => {
	const { clock, host, stored, keeper } = start(async () => MACHINE);
	host.gpus = undefined;
	await keeper.look(false);
	host.gpus = 1;
	await keeper.look(false);
	host.gpus = 2;
	clock.advance(HOUR_MS - 1);
	await keeper.look(false);
	expect(stored.map(({ gpus }) => gpus)).toEqual([1]);
	clock.advance(1);
	await keeper.look(false);
	expect(stored.map(({ gpus }) => gpus)).toEqual([1, 2]);
});

test('firmware facts are read until they were read, and then no more', async () => {
	let reads = 0;
	const { clock, stored, keeper } = start(async () => {
		reads += 1;
		if (reads === 1) throw new Error('no process can be made');
		return reads === 2 ? undefined : MACHINE;
	});
	for (let hours = 0; hours < 6; hours += 1) {
		await keeper.look(false);
		clock.advance(HOUR_MS);
	}
	expect(stored.map(({ board }) => board)).toEqual(['', MACHINE.board.vendor]);
	expect(reads).toBe(3);
});
