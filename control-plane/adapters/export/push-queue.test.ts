import {
	appendFileSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PushQueue } from './push-queue.ts';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-push-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const open = (bytesMax = 4000, segmentBytesMax = 1000) => PushQueue.open({ folder, bytesMax, segmentBytesMax });
const text = (record: Buffer | undefined) => record?.toString('utf8');
const segments = () => readdirSync(folder).filter((name) => name.endsWith('.seg'));

async function drain(queue: PushQueue): Promise<string[]> {
	const all: string[] = [];
	for (let record = await queue.peek(); record !== undefined; record = await queue.peek()) {
		all.push(record.toString('utf8'));
		await queue.take();
	}
	return all;
}

describe('the push queue', () => {
	test('gives records in order, each until it is taken', async () => {
		await using queue = await open();
		await queue.append(Buffer.from('one'));
		await queue.append(Buffer.from('two'));
		expect([text(await queue.peek()), text(await queue.peek())]).toEqual(['one', 'one']);
		await queue.take();
		await queue.append(Buffer.from('three'));
		expect(await drain(queue)).toEqual(['two', 'three']);
		expect([queue.records, await queue.peek()]).toEqual([0, undefined]);
	});

	test('goes on after a restart where it was, over several segments', async () => {
		const names = Array.from({ length: 30 }, (_, index) => `record ${index} ${'x'.repeat(80)}`);
		{
			await using queue = await open();
			for (const name of names) await queue.append(Buffer.from(name));
			expect(segments().length).toBeGreaterThan(2);
			for (let count = 0; count < 13; count += 1) {
				await queue.peek();
				await queue.take();
			}
		}
		await using again = await open();
		expect(again.records).toBe(17);
		await again.append(Buffer.from('new'));
		expect(await drain(again)).toEqual([...names.slice(13), 'new']);
		expect(segments().length).toBeLessThan(2);
	});

	test('a full queue drops its oldest segment and counts what went', async () => {
		await using queue = await open();
		const names = Array.from({ length: 60 }, (_, index) => `${index} ${'x'.repeat(92)}`);
		for (const name of names) await queue.append(Buffer.from(name));
		expect(queue.bytes).toBeLessThanOrEqual(4000);
		const left = await drain(queue);
		expect(left).toEqual(names.slice(queue.droppedRecords));
		expect(queue.droppedRecords).toBeGreaterThan(15);
	});

	test('what was dropped while it was sent is not taken from another', async () => {
		await using queue = await open();
		await queue.append(Buffer.from('sent'));
		expect(text(await queue.peek())).toBe('sent');
		for (let index = 0; index < 60; index += 1) await queue.append(Buffer.from(`${index} ${'x'.repeat(92)}`));
		const { records } = queue;
		await queue.take();
		expect(queue.records).toBe(records);
	});

	test('a record torn by a crash is left out, at any byte, and the next is not written behind it', async () => {
		for (const cut of [1, 4, 9, 12]) {
			{
				await using queue = await open();
				await queue.append(Buffer.from('whole'));
				await queue.append(Buffer.from('torn!'));
			}
			const path = join(folder, segments().sort().at(-1) ?? '');
			truncateSync(path, statSync(path).size - cut);
			await using again = await open();
			await again.append(Buffer.from('next'));
			expect(await drain(again)).toEqual(['whole', 'next']);
		}
	});

	test('what a write that failed half-way left behind costs no record after it', async () => {
		await using queue = await open();
		await queue.append(Buffer.from('first'));
		expect(await drain(queue)).toEqual(['first']);
		appendFileSync(join(folder, segments()[0] ?? ''), Buffer.alloc(600, 7));
		await queue.append(Buffer.alloc(300, 'b'));
		expect((await queue.peek())?.length).toBe(300);
		await queue.take();
		await queue.append(Buffer.alloc(200, 'c'));
		expect((await queue.peek())?.length).toBe(200);
		expect(queue.droppedRecords).toBe(0);
	});

	test('a segment that was damaged since gives what is before the damage; other files are left alone', async () => {
		await using queue = await open();
		for (const name of ['a', 'b', 'c']) await queue.append(Buffer.from(name));
		const path = join(folder, segments()[0] ?? '');
		writeFileSync(path, Buffer.alloc(statSync(path).size, 0x41));
		writeFileSync(join(folder, 'README'), 'mine');
		expect(await queue.peek()).toBeUndefined();
		expect(queue.droppedRecords).toBe(3);
		await queue.append(Buffer.from('d'));
		expect(await drain(queue)).toEqual(['d']);
	});

	test('a record in which one bit changed is not sent, nor what follows it there', async () => {
		await using queue = await open();
		for (const name of ['a', 'changed', 'c']) await queue.append(Buffer.from(name));
		const path = join(folder, segments()[0] ?? '');
		const bytes = readFileSync(path);
		const at = bytes.indexOf('changed');
		bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
		writeFileSync(path, bytes);
		expect(await drain(queue)).toEqual(['a']);
		expect(queue.droppedRecords).toBe(2);
	});
});
