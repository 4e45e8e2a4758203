import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { gapMarker, UNKNOWN_GAP } from '../../../control-plane/app/recordings/gap.ts';
import type {
	RecordingFile,
	RecordingStore,
	RecoveredFile,
} from '../../../control-plane/app/recordings/recording-store.ts';
import { encodeCastEvent, encodeCastHeader } from '../../../kit/asciicast.ts';
import { assert, present } from '../../../kit/assert.ts';
import { systemClock } from '../../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../../kit/ids.ts';

export interface RecordingStoreUnderTest extends AsyncDisposable {
	/** Another handle on the same content: the process after a crash. */
	open(): RecordingStore;
}

export const HEADER = encodeCastHeader({ width: 80, height: 24, timestamp: 1, title: '', env: {} });
export const line = (atMs: number, text: string) => encodeCastEvent({ atMs, code: 'o', text });
export const newRecordingId = () => uuidv7(systemClock.now(), systemRng);

export function openOf({ state }: RecoveredFile): RecordingFile {
	assert(state.kind === 'open', 'it is open');
	return state.file;
}

/** What every store of recordings does. */
export function recordingStoreContract(create: () => RecordingStoreUnderTest): void {
	test('what was appended is sealed under its digest, and read from any offset', async () => {
		await using under = create();
		const store = under.open();
		const file = await store.create(newRecordingId());
		const text = `${HEADER}${line(1, 'a')}${line(2, 'ü€😀')}`;
		for (const part of text.split(/(?<=\n)/)) await file.append(part);
		expect(file.bytes).toBe(Buffer.byteLength(text));
		const sealed = await file.seal();
		expect(sealed).toEqual({ sha256: createHash('sha256').update(text).digest('hex'), bytes: Buffer.byteLength(text) });
		expect(Buffer.from(present(await store.read(sealed.sha256, 0, 1 << 20), 'it is kept')).toString()).toBe(text);
		expect(Buffer.from(present(await store.read(sealed.sha256, 5, 7), 'it is kept')).toString()).toBe(
			text.slice(5, 12),
		);
		expect(await store.read(sealed.sha256, sealed.bytes, 10)).toHaveLength(0);
		expect(await store.read(sealed.sha256, sealed.bytes + 1000, 10)).toHaveLength(0);
	});

	test('what is not there is not there; removing is idempotent', async () => {
		await using under = create();
		const store = under.open();
		const unknown = '0'.repeat(64);
		expect(await store.read(unknown, 0, 10)).toBeUndefined();
		expect(await store.recover(newRecordingId())).toBeUndefined();
		const id = newRecordingId();
		await store.remove(id, unknown);
		const file = await store.create(id);
		await file.append(HEADER);
		const { sha256 } = await file.seal();
		await store.remove(id, sha256);
		await store.remove(id, sha256);
		expect(await store.read(sha256, 0, 10)).toBeUndefined();
		expect(await store.recover(id)).toBeUndefined();
	});

	test('a recording that was cut by a crash goes on and is sealed; one that was sealed and not said to be is found so', async () => {
		await using under = create();
		const id = newRecordingId();
		const file = await under.open().create(id);
		await file.append(`${HEADER}${line(1500, 'a')}`);
		await file.close();
		const again = present(await under.open().recover(id), 'it is there');
		const opened = openOf(again);
		expect([again.events, again.lastEventMs, opened.bytes]).toEqual([
			1,
			1500,
			Buffer.byteLength(`${HEADER}${line(1500, 'a')}`),
		]);
		const texts = [gapMarker(10, 25, 'the link was down'), gapMarker(0, 5, 'nothing was recorded then'), UNKNOWN_GAP];
		const gap = texts.map((text) => encodeCastEvent({ atMs: 1550, code: 'm', text })).join('');
		await opened.append(`${gap}${line(1600, 'b')}`);
		const { sha256 } = await opened.seal();
		expect(sha256).toBe(
			createHash('sha256')
				.update(`${HEADER}${line(1500, 'a')}${gap}${line(1600, 'b')}`)
				.digest('hex'),
		);
		expect(await under.open().recover(id)).toEqual({
			state: { kind: 'sealed', sha256, bytes: opened.bytes },
			events: 5,
			lastEventMs: 1600,
			lastMarker: '',
			gaps: 3,
			gapBytes: 20,
		});
	});

	test('one id is one file', async () => {
		await using under = create();
		const id = newRecordingId();
		const file = await under.open().create(id);
		await expect(under.open().create(id)).rejects.toThrow();
		await file.close();
	});
}
