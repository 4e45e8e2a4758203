import { expect, test } from 'vitest';
import type { OutputChunk, OutputStore } from '../../../control-plane/app/tasks/output-store.ts';
import { systemClock } from '../../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../../kit/ids.ts';

/** What every output store must do. `open` gives a store on the same place each time: what was synced is there again. */
export interface OutputStoreUnderTest extends AsyncDisposable {
	open(): Promise<OutputStore & AsyncDisposable>;
}

/** Most tests aren't about the cap of a task. */
export const UNCAPPED = Number.MAX_SAFE_INTEGER;

export function newTaskId(): string {
	return uuidv7(systemClock.now(), systemRng);
}

export function chunk(offset: number, text: string, rest: Partial<OutputChunk> = {}): OutputChunk {
	return { offset, stream: 'stdout', data: Buffer.from(text), droppedBytes: 0, ...rest };
}

export function shown(chunks: readonly OutputChunk[]) {
	return chunks.map(({ offset, stream, data, droppedBytes }) => [
		offset,
		stream,
		Buffer.from(data).toString('utf8'),
		droppedBytes,
	]);
}

export function outputStoreContract(make: () => Promise<OutputStoreUnderTest>): void {
	const withStore = (name: string, work: (store: OutputStore, under: OutputStoreUnderTest) => Promise<void>) =>
		test(name, async () => {
			await using under = await make();
			await using store = await under.open();
			await work(store, under);
		});

	withStore('an unknown attempt has nothing, and looking makes nothing', async (store) => {
		const task = newTaskId();
		expect(await store.storedOffset(task, 1)).toBe(0);
		expect(await store.read(task, 1, 0, 100)).toEqual([]);
		await store.sync(task, 1);
		await store.remove(task);
	});

	withStore('chunks come back as they were given, streams apart', async (store) => {
		const task = newTaskId();
		const given = [chunk(0, 'out'), chunk(3, 'err', { stream: 'stderr' }), chunk(6, 'more')];
		expect(await store.append(task, 1, given, UNCAPPED)).toBe(10);
		expect(shown(await store.read(task, 1, 0, 100))).toEqual(shown(given));
		expect(await store.storedOffset(task, 1)).toBe(10);
		expect(await store.storedOffset(task, 2)).toBe(0);
	});

	withStore(
		'appends and syncs side by side: what a sync found is kept, short and long chunks whole',
		async (store, under) => {
			const task = newTaskId();
			const sizes = Array.from({ length: 40 }, (_, index) => (index % 3 === 0 ? 70_000 : 1 + index * 7));
			const given: OutputChunk[] = [];
			let offset = 0;
			const done: Promise<unknown>[] = [];
			for (const [index, bytes] of sizes.entries()) {
				given.push(chunk(offset, String(index % 10).repeat(bytes)));
				done.push(store.append(task, 1, given.slice(-1), UNCAPPED), store.sync(task, 1));
				offset += bytes;
			}
			await Promise.all(done);
			await using again = await under.open();
			expect(await again.storedOffset(task, 1)).toBe(offset);
			const read: OutputChunk[] = [];
			for (let at = 0; at < offset; at = (read.at(-1)?.offset ?? 0) + (read.at(-1)?.data.length ?? 0))
				read.push(...(await again.read(task, 1, at, 128 * 1024)));
			expect(Buffer.concat(read.map(({ data }) => data)).equals(Buffer.concat(given.map(({ data }) => data)))).toBe(
				true,
			);
		},
	);

	withStore('a read begins at its offset and stops at its size', async (store) => {
		const task = newTaskId();
		await store.append(task, 1, [chunk(0, 'abcdef'), chunk(6, 'ghi', { stream: 'stderr' })], UNCAPPED);
		expect(shown(await store.read(task, 1, 2, 100))).toEqual([
			[2, 'stdout', 'cdef', 0],
			[6, 'stderr', 'ghi', 0],
		]);
		expect(shown(await store.read(task, 1, 2, 3))).toEqual([[2, 'stdout', 'cde', 0]]);
		expect(shown(await store.read(task, 1, 5, 2))).toEqual([
			[5, 'stdout', 'f', 0],
			[6, 'stderr', 'g', 0],
		]);
		expect(await store.read(task, 1, 9, 100)).toEqual([]);
	});

	withStore('what overlaps is kept once, and a gap is refused without a trace', async (store) => {
		const task = newTaskId();
		await store.append(task, 1, [chunk(0, 'abc')], UNCAPPED);
		expect(await store.append(task, 1, [chunk(0, 'abc'), chunk(1, 'bcde')], UNCAPPED)).toBe(5);
		await expect(store.append(task, 1, [chunk(7, 'x')], UNCAPPED)).rejects.toMatchObject({ reason: 'OUTPUT_GAP' });
		expect(await store.append(task, 1, [], UNCAPPED)).toBe(5);
		expect(shown(await store.read(task, 1, 0, 100))).toEqual([
			[0, 'stdout', 'abc', 0],
			[3, 'stdout', 'de', 0],
		]);
	});

	withStore('bytes that the cap left out count in offsets and are told to readers', async (store) => {
		const task = newTaskId();
		await store.append(task, 1, [chunk(0, 'head'), chunk(1004, 'tail', { droppedBytes: 1000 })], UNCAPPED);
		expect(await store.storedOffset(task, 1)).toBe(1008);
		expect(shown(await store.read(task, 1, 0, 100))).toEqual([
			[0, 'stdout', 'head', 0],
			[1004, 'stdout', 'tail', 1000],
		]);
		expect(shown(await store.read(task, 1, 500, 100))).toEqual([[1004, 'stdout', 'tail', 504]]);
		expect(shown(await store.read(task, 1, 1006, 100))).toEqual([[1006, 'stdout', 'il', 0]]);
	});

	withStore('what was synced is there after it is opened again', async (store, under) => {
		const task = newTaskId();
		const data = 'x'.repeat(10_000);
		for (let offset = 0; offset < 1_000_000; offset += data.length)
			await store.append(task, 3, [chunk(offset, data)], UNCAPPED);
		await store.sync(task, 3);
		await using again = await under.open();
		expect(await again.storedOffset(task, 3)).toBe(1_000_000);
		const [last] = await again.read(task, 3, 999_999, 100);
		expect(last).toMatchObject({ offset: 999_999 });
		expect(await again.append(task, 3, [chunk(1_000_000, 'end')], UNCAPPED)).toBe(1_000_003);
	});

	withStore('past its cap the store keeps what fits and a gap, and no more', async (store) => {
		const task = newTaskId();
		const cap = 10 + 25 + 25;
		expect(await store.append(task, 1, [chunk(0, '01234')], cap)).toBe(5);
		const more = [chunk(5, '56789'), chunk(10, 'abcdef')];
		await expect(store.append(task, 1, more, cap)).rejects.toMatchObject({ reason: 'OUTPUT_TOO_LARGE' });
		const kept = [
			[0, 'stdout', '01234', 0],
			[10, 'stdout', '', 5],
		];
		expect(shown(await store.read(task, 1, 0, 100))).toEqual(kept);
		for (let count = 0; count < 3; count += 1)
			await expect(store.append(task, 1, [chunk(10, '0123456789')], cap)).rejects.toMatchObject({
				reason: 'OUTPUT_TOO_LARGE',
			});
		expect(shown(await store.read(task, 1, 0, 100))).toEqual(kept);
		const other = newTaskId();
		expect(await store.append(other, 1, [chunk(0, '01234')], cap)).toBe(5);
	});

	withStore('many writers at once leave each byte once', async (store) => {
		const task = newTaskId();
		const pieces = Array.from({ length: 50 }, (_, index) => chunk(index * 4, String(index).padStart(4, '.')));
		await Promise.all(pieces.map((_, index) => store.append(task, 1, pieces.slice(0, index + 1), UNCAPPED)));
		const read = await store.read(task, 1, 0, 10_000);
		expect(read.map(({ data }) => Buffer.from(data).toString('utf8')).join('')).toBe(
			pieces.map(({ data }) => Buffer.from(data).toString('utf8')).join(''),
		);
	});

	withStore('a removed task is unknown again', async (store) => {
		const task = newTaskId();
		await store.append(task, 1, [chunk(0, 'abc')], UNCAPPED);
		await store.remove(task);
		expect(await store.storedOffset(task, 1)).toBe(0);
		expect(await store.append(task, 1, [chunk(0, 'new')], UNCAPPED)).toBe(3);
	});

	withStore('it says whether it has room', async (store) => {
		await expect(store.check()).resolves.toBeUndefined();
	});
}
