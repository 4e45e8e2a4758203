import { expect, test } from 'vitest';
import { BoundedQueue } from './queue.ts';

async function drain<T>(queue: BoundedQueue<T>): Promise<T[]> {
	const items: T[] = [];
	for await (const item of queue) items.push(item);
	return items;
}

test('keeps order, and refuses what is too much', async () => {
	const queue = new BoundedQueue<number>(2);
	expect([queue.push(1), queue.push(2), queue.push(3)]).toEqual([true, true, false]);
	expect(queue.size).toBe(2);
	queue.close();
	expect(queue.push(4)).toBe(false);
	expect(await drain(queue)).toEqual([1, 2]);
});

test('put waits for room, and hears of the end', async () => {
	const queue = new BoundedQueue<number>(1);
	queue.push(1);
	const order: string[] = [];
	const second = queue.put(2).then((took) => order.push(`second ${took}`));
	const third = queue.put(3).then((took) => order.push(`third ${took}`));
	const items = queue[Symbol.asyncIterator]();
	expect((await items.next()).value).toBe(1);
	await second;
	expect(order).toEqual(['second true']);
	queue.close();
	await third;
	expect(order).toEqual(['second true', 'third false']);
	expect((await items.next()).value).toBe(2);
	expect((await items.next()).done).toBe(true);
});

test('an idle reader wakes for an item and for the end', async () => {
	const queue = new BoundedQueue<string>(8);
	const reading = drain(queue);
	await Promise.resolve();
	queue.push('a');
	await Promise.resolve();
	queue.close();
	queue.close(new Error('late: ignored'));
	expect(await reading).toEqual(['a']);
});

test('an error ends the iteration after what is queued', async () => {
	const queue = new BoundedQueue<number>(8);
	queue.push(1);
	queue.close(new Error('broken'));
	const items = queue[Symbol.asyncIterator]();
	expect((await items.next()).value).toBe(1);
	await expect(items.next()).rejects.toThrow('broken');
});

test('a reader that leaves closes the queue', async () => {
	const queue = new BoundedQueue<number>(8);
	queue.push(1);
	queue.push(2);
	for await (const _ of queue) break;
	expect([queue.closed, queue.push(3)]).toEqual([true, false]);
});

test('order survives the compaction of a long queue', async () => {
	const queue = new BoundedQueue<number>(1_000_000);
	const items = queue[Symbol.asyncIterator]();
	let next = 0;
	for (let index = 0; index < 10_000; index += 1) {
		queue.push(index);
		if (index % 3 !== 0) {
			expect((await items.next()).value).toBe(next);
			next += 1;
		}
	}
	expect(queue.size).toBe(10_000 - next);
	queue.close();
	for (;;) {
		const { done, value } = await items.next();
		if (done === true) break;
		expect(value).toBe(next);
		next += 1;
	}
	expect(next).toBe(10_000);
});
