import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { SpoolWriter, summarizeKept } from './spool.ts';
import { readSpool, SpoolCursor, type SpoolRecord } from './spool-reader.ts';

let parent: string;
beforeEach(() => {
	parent = mkdtempSync(join(tmpdir(), 'spool-'));
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const chunk = fc.record({
	stream: fc.constantFrom('stdout', 'stderr'),
	bytes: fc.uint8Array({ minLength: 1, maxLength: 3000, size: 'max' }),
});

/** Puts records back in their places; gaps are undefined. */
function place(records: readonly SpoolRecord[], total: number): readonly ([string, number] | undefined)[] {
	const placed = new Array<[string, number] | undefined>(total).fill(undefined);
	for (const record of records) {
		if (record.kind !== 'DATA') continue;
		for (const [index, byte] of record.bytes.entries()) placed[record.offset + index] = [record.stream, byte];
	}
	return placed;
}

it('gives every kept byte at its offset and stream, keeps to the cap, and counts what it dropped', async () => {
	let round = 0;
	const rounds = { cut: 0, whole: 0 };
	await fc.assert(
		fc.asyncProperty(
			// Without a size few of them would ever reach a cap.
			fc.array(chunk, { maxLength: 40, size: 'max' }),
			fc.integer({ min: 4096, max: 30_000 }),
			async (chunks, cap) => {
				round += 1;
				const folder = join(parent, String(round));
				const writer = new SpoolWriter(folder, cap);
				const written: [string, number][] = [];
				for (const { stream, bytes } of chunks) {
					writer.write(stream as 'stdout', Buffer.from(bytes));
					for (const byte of bytes) written.push([stream, byte]);
				}
				const summary = await writer.seal(systemClock);
				const records = [...readSpool(folder)];
				const placed = place(records, written.length);
				const isAnother = (each: (typeof placed)[number], offset: number) =>
					each !== undefined && (each[0] !== written[offset]?.[0] || each[1] !== written[offset]?.[1]);
				expect(placed.findIndex(isAnother)).toBe(-1);
				const kept = placed.filter((each) => each !== undefined).length;
				expect(summary.totalBytes).toBe(written.length);
				expect(summary.droppedBytes).toBe(written.length - kept);
				const disk = chunks.length === 0 ? [] : readdirSync(folder).map((name) => statSync(join(folder, name)).size);
				expect(disk.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(cap);
				const framing = 13 * (records.length + 16);
				if (written.length + framing + chunks.length * 26 <= cap) expect(summary.droppedBytes).toBe(0);
				for (const stream of ['stdout', 'stderr'] as const) {
					const all = Buffer.from(written.filter(([name]) => name === stream).map(([, byte]) => byte));
					expect(summary.written?.[stream]).toEqual({
						bytes: all.length,
						sha256: createHash('sha256').update(all).digest('hex'),
					});
				}
				if (summary.droppedBytes > 0) expect(summary.kept).toEqual(summarizeKept(folder).kept);
				rounds[summary.droppedBytes > 0 ? 'cut' : 'whole'] += 1;
			},
		),
		{ numRuns: 60 },
	);
	expect(Math.min(rounds.cut, rounds.whole)).toBeGreaterThan(5);
});

it('reads from every offset what follows it, and sees what is written while it reads', () => {
	const writer = new SpoolWriter(join(parent, 'live'), 1 << 20);
	const cursor = new SpoolCursor(join(parent, 'live'), 3);
	expect(cursor.next()).toBeUndefined();
	writer.write('stdout', Buffer.from('abc'));
	expect(cursor.next()).toBeUndefined();
	writer.write('stderr', Buffer.from('def'));
	expect(cursor.next()).toMatchObject({ kind: 'DATA', stream: 'stderr', offset: 3, bytes: Buffer.from('def') });
	expect(cursor.next()).toBeUndefined();
	writer.write('stdout', Buffer.from('g'));
	expect(cursor.next()).toMatchObject({ offset: 6, bytes: Buffer.from('g') });
	cursor.close();
});

it('says where the gap is, once', () => {
	const writer = new SpoolWriter(join(parent, 'gap'), 4096);
	for (let index = 0; index < 100; index += 1) writer.write('stdout', Buffer.alloc(200, index));
	const records = [...readSpool(join(parent, 'gap'))];
	const gaps = records.filter((record) => record.kind === 'GAP');
	expect(gaps.length).toBe(1);
	const end = records.at(-1);
	expect(end?.kind === 'DATA' && end.offset + end.bytes.length).toBe(20_000);
});

it('ends at a torn record, and at one that is no record', () => {
	const folder = join(parent, 'torn');
	const writer = new SpoolWriter(folder, 1 << 20);
	writer.write('stdout', Buffer.from('whole'));
	writer.write('stdout', Buffer.from('torn'));
	const file = join(folder, readdirSync(folder)[0] ?? '');
	truncateSync(file, 13 + 5 + 13 + 2);
	expect([...readSpool(folder)].map((record) => record.kind === 'DATA' && record.bytes.toString())).toEqual(['whole']);
	truncateSync(file, 13 + 5);
	appendFileSync(file, Buffer.alloc(100));
	expect([...readSpool(folder)].length).toBe(1);
	expect(summarizeKept(folder)).toMatchObject({ totalBytes: 5, droppedBytes: 0 });
});

it('drops and counts what the disk does not take, without failing', async () => {
	// A file stands where the folder should be.
	writeFileSync(join(parent, 'blocked'), '');
	const writer = new SpoolWriter(join(parent, 'blocked'), 4096);
	writer.write('stdout', Buffer.from('lost'));
	const summary = await writer.seal(systemClock);
	expect(summary).toMatchObject({ totalBytes: 4, droppedBytes: 4, written: { stdout: { bytes: 4 } } });
	expect(summary.kept.stdout.bytes).toBe(0);
});

it('lets everything else of the host run while it reads a large output again', async () => {
	const writer = new SpoolWriter(join(parent, 'large'), 3 << 20);
	for (let count = 0; count < 64; count += 1) writer.write('stdout', Buffer.alloc(64 << 10, count));
	let turns = 0;
	const clock: Clock = {
		...systemClock,
		defer: (callback) => {
			turns += 1;
			systemClock.defer(callback);
		},
	};
	const summary = await writer.seal(clock);
	expect(summary.kept).toEqual(summarizeKept(join(parent, 'large')).kept);
	expect(turns).toBeGreaterThan(1);
});
