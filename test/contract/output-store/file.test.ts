import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
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
import { describe, expect, test } from 'vitest';
import { FileOutputStore } from '../../../control-plane/adapters/object-store/file-output-store.ts';
import { present } from '../../../kit/assert.ts';
import { chunk, newTaskId, outputStoreContract, shown, UNCAPPED } from './output-store-contract.ts';

function folder(): { readonly path: string } & Disposable {
	const path = mkdtempSync(join(tmpdir(), 'gpuaas-output-'));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

function fileOf(path: string, taskId: string, attempt = 1): string {
	return join(path, taskId.slice(-2), taskId, `${attempt}.log`);
}

function writer(path: string, taskId: string): string[] {
	return [process.execPath, join(import.meta.dirname, 'writer.ts'), path, taskId];
}

async function finished(child: ChildProcessWithoutNullStreams): Promise<string> {
	let printed = '';
	child.stdout.on('data', (data: Buffer) => {
		printed += data.toString();
	});
	await once(child, 'close');
	return printed;
}

describe('files', () => {
	outputStoreContract(async () => {
		const place = folder();
		return {
			open: async () => new FileOutputStore({ folder: place.path, freeBytesMin: 0, openLogsMax: 4 }),
			async [Symbol.asyncDispose]() {
				place[Symbol.dispose]();
			},
		};
	});

	const open = (path: string) => new FileOutputStore({ folder: path, freeBytesMin: 0 });

	test.each([1, 3, 20, 24, 28])(
		'a tail torn %i bytes before its end is cut, and what was whole stays',
		async (bytes) => {
			using place = folder();
			const task = newTaskId();
			{
				await using store = open(place.path);
				await store.append(task, 1, [chunk(0, 'whole'), chunk(5, 'torn')], UNCAPPED);
			}
			truncateSync(fileOf(place.path, task), statSync(fileOf(place.path, task)).size - bytes);
			rmSync(`${fileOf(place.path, task)}.index`);
			await using again = open(place.path);
			expect(await again.storedOffset(task, 1)).toBe(5);
			expect(await again.append(task, 1, [chunk(5, 'TORN')], UNCAPPED)).toBe(9);
			expect(shown(await again.read(task, 1, 0, 100))).toEqual([
				[0, 'stdout', 'whole', 0],
				[5, 'stdout', 'TORN', 0],
			]);
		},
	);

	test('zeros and noise after the end are cut', async () => {
		using place = folder();
		const task = newTaskId();
		for (const noise of [Buffer.alloc(5000), Buffer.alloc(5000, 0xff), Buffer.from('x')]) {
			{
				await using store = open(place.path);
				await store.append(task, 1, [chunk(0, 'whole')], UNCAPPED);
			}
			appendFileSync(fileOf(place.path, task), noise);
			await using again = open(place.path);
			expect(await again.storedOffset(task, 1)).toBe(5);
		}
	});

	test('a flipped bit ends what can be trusted', async () => {
		using place = folder();
		const task = newTaskId();
		{
			await using store = open(place.path);
			await store.append(task, 1, [chunk(0, 'first'), chunk(5, 'second'), chunk(11, 'third')], UNCAPPED);
		}
		const path = fileOf(place.path, task);
		const bytes = readFileSync(path);
		const at = bytes.indexOf('second');
		bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
		writeFileSync(path, bytes);
		{
			await using again = open(place.path);
			expect(await again.storedOffset(task, 1)).toBe(5);
			await again.append(task, 1, [chunk(5, 'SECOND')], UNCAPPED);
		}
		// What stood after it was cut with it, and doesn't come back behind what was sent again.
		await using later = open(place.path);
		expect(await later.storedOffset(task, 1)).toBe(11);
	});

	test.each(['missing', 'garbage', 'of a longer log'])(
		'an index that is %s costs time and nothing else',
		async (kind) => {
			using place = folder();
			const task = newTaskId();
			const data = 'y'.repeat(100_000);
			{
				await using store = open(place.path);
				for (let offset = 0; offset < 2_000_000; offset += data.length)
					await store.append(task, 1, [chunk(offset, data)], UNCAPPED);
				await store.sync(task, 1);
			}
			const index = `${fileOf(place.path, task)}.index`;
			expect(statSync(index).size).toBeGreaterThan(16);
			if (kind === 'missing') rmSync(index);
			else if (kind === 'garbage') writeFileSync(index, Buffer.alloc(160, 7));
			else truncateSync(fileOf(place.path, task), 500_000);
			await using again = open(place.path);
			expect(await again.storedOffset(task, 1)).toBe(kind === 'of a longer log' ? 400_000 : 2_000_000);
		},
	);

	test('below its floor of free space it takes nothing', async () => {
		using place = folder();
		const task = newTaskId();
		await using small = new FileOutputStore({ folder: place.path, freeBytesMin: Number.MAX_SAFE_INTEGER });
		await expect(small.check()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL' });
		await expect(small.append(task, 1, [chunk(0, 'abc')], UNCAPPED)).rejects.toMatchObject({ reason: 'DISK_FULL' });
		expect(await small.storedOffset(task, 1)).toBe(0);
	});

	test('a write that the disk takes only in part is DISK_FULL, and nothing of it is kept', async () => {
		using place = folder();
		const task = newTaskId();
		// The file size limit stops a write in its middle, as a full disk does.
		const ended = await finished(spawn('prlimit', ['--fsize=50000', ...writer(place.path, task)]));
		const [reason, stored] = present(ended.trim().split('\n').at(-1), 'a last line').split(' ');
		expect(reason).toBe('DISK_FULL');
		await using again = open(place.path);
		expect(await again.storedOffset(task, 1)).toBe(Number(stored));
		expect(await again.append(task, 1, [chunk(Number(stored), 'room')], UNCAPPED)).toBe(Number(stored) + 4);
		expect((await again.read(task, 1, Number(stored), 10)).length).toBe(1);
	});

	test('kill -9 between any two bytes loses nothing that was synced', async () => {
		using place = folder();
		const task = newTaskId();
		const [program = '', ...args] = writer(place.path, task);
		const child = spawn(program, args);
		let printed = '';
		child.stdout.on('data', (data: Buffer) => {
			printed += data.toString();
			if (printed.split('\n').length > 40) child.kill('SIGKILL');
		});
		await once(child, 'close');
		const synced = Number(printed.trim().split('\n').at(-1));
		await using again = open(place.path);
		const stored = await again.storedOffset(task, 1);
		expect(stored).toBeGreaterThanOrEqual(synced);
		expect(stored % 1000).toBe(0);
		const read = await again.read(task, 1, 0, stored);
		expect(read.reduce((sum, { data }) => sum + data.length, 0)).toBe(stored);
	});

	test('a bounded number of files stays open while thousands of attempts are written', async () => {
		using place = folder();
		await using store = new FileOutputStore({ folder: place.path, freeBytesMin: 0, openLogsMax: 8 });
		const before = readdirSync('/proc/self/fd').length;
		const tasks = Array.from({ length: 200 }, newTaskId);
		for (const task of tasks) await store.append(task, 1, [chunk(0, task)], UNCAPPED);
		for (const task of tasks) expect(shown(await store.read(task, 1, 0, 100))).toEqual([[0, 'stdout', task, 0]]);
		// Two files each, and those that are being closed.
		expect(readdirSync('/proc/self/fd').length - before).toBeLessThan(64);
	});

	test('a task id that is no UUID makes no path', async () => {
		using place = folder();
		await using store = open(place.path);
		await expect(store.append('../../etc/x', 1, [chunk(0, 'a')], UNCAPPED)).rejects.toThrow('UUID');
	});
});
