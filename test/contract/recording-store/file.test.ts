import { appendFileSync, chmodSync, chownSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileRecordingStore } from '../../../control-plane/adapters/object-store/file-recording-store.ts';
import { present } from '../../../kit/assert.ts';
import { HEADER, line, newRecordingId, openOf, recordingStoreContract } from './recording-store-contract.ts';

const NOBODY = 65_534;

function folder(): { readonly path: string } & Disposable {
	const path = mkdtempSync(join(tmpdir(), 'gpuaas-recordings-'));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

describe('files', () => {
	recordingStoreContract(() => {
		const place = folder();
		return {
			open: () => new FileRecordingStore({ folder: place.path, freeBytesMin: 0 }),
			async [Symbol.asyncDispose]() {
				place[Symbol.dispose]();
			},
		};
	});

	const whole = `${HEADER}${line(1, 'first')}${line(2, 'second')}`;

	async function crashed(path: string): Promise<{ readonly id: string; readonly file: string }> {
		const id = newRecordingId();
		const file = await new FileRecordingStore({ folder: path, freeBytesMin: 0 }).create(id);
		await file.append(whole);
		await file.close();
		return { id, file: join(path, 'open', `${id}.cast`) };
	}

	test('a tail torn anywhere is cut to the last whole event', async () => {
		const lastLine = Buffer.byteLength(line(2, 'second'));
		for (const torn of [1, 2, lastLine - 1]) {
			using place = folder();
			const { id, file } = await crashed(place.path);
			truncateSync(file, statSync(file).size - torn);
			const found = present(
				await new FileRecordingStore({ folder: place.path, freeBytesMin: 0 }).recover(id),
				'it is there',
			);
			expect([found.events, openOf(found).bytes]).toEqual([1, Buffer.byteLength(whole) - lastLine]);
			await openOf(found).close();
		}
	});

	test('one that was left while it was sealed is taken up again, also by whoever is not root', async () => {
		using place = folder();
		const isRoot = process.getuid?.() === 0;
		if (isRoot) {
			chownSync(place.path, NOBODY, NOBODY);
			process.seteuid?.(NOBODY);
		}
		try {
			const { id, file } = await crashed(place.path);
			chmodSync(file, 0o400);
			const store = new FileRecordingStore({ folder: place.path, freeBytesMin: 0 });
			const found = present(await store.recover(id), 'it is there');
			expect(found.events).toBe(2);
			const { sha256 } = await openOf(found).seal();
			expect(await store.recover(id)).toMatchObject({ state: { kind: 'sealed', sha256 } });
		} finally {
			if (isRoot) process.seteuid?.(0);
		}
	});

	test('zeros, noise and lines that are no events behind the end are cut', async () => {
		for (const noise of [
			Buffer.alloc(4096),
			Buffer.from('\xff\xfe\n'),
			Buffer.from('{"not":"an event"}\n'),
			Buffer.alloc(6 << 20, 'x'),
		]) {
			using place = folder();
			const { id, file } = await crashed(place.path);
			appendFileSync(file, noise);
			const found = present(
				await new FileRecordingStore({ folder: place.path, freeBytesMin: 0 }).recover(id),
				'it is there',
			);
			expect([found.events, openOf(found).bytes, found.lastEventMs]).toEqual([2, Buffer.byteLength(whole), 2]);
			await openOf(found).close();
		}
	});

	test('below its floor of free space none begins', async () => {
		using place = folder();
		const store = new FileRecordingStore({ folder: place.path, freeBytesMin: Number.MAX_SAFE_INTEGER });
		await expect(store.check()).rejects.toMatchObject({ reason: 'DISK_FULL' });
		await expect(store.create(newRecordingId())).rejects.toMatchObject({ reason: 'DISK_FULL' });
	});

	test('what is sealed can not be written by accident', async () => {
		using place = folder();
		const store = new FileRecordingStore({ folder: place.path, freeBytesMin: 0 });
		const file = await store.create(newRecordingId());
		await file.append(HEADER);
		const { sha256 } = await file.seal();
		expect(statSync(join(place.path, 'sha256', sha256.slice(0, 2), `${sha256.slice(2)}.cast`)).mode & 0o777).toBe(
			0o400,
		);
		await expect(store.read('../../etc/passwd', 0, 1)).rejects.toThrow(/64 hex digits/);
	});
});
