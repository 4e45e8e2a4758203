import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { CAST_LINE_CHARACTERS_MAX, decodeCastEvent, decodeCastHeader } from '../../../kit/asciicast.ts';
import { type Gaps, NO_GAPS, withGap } from '../../app/recordings/gap.ts';

/** What a recording's file holds up to its last line that is whole and an event. */
export interface Scanned extends Gaps {
	readonly bytes: number;
	/** Lines after the header. */
	readonly events: number;
	readonly lastEventMs: number;
	/** Empty when the last event is no marker. */
	readonly lastMarker: string;
	/** Of `bytes`. */
	readonly hash: Hash;
}

const CHUNK_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

export async function scanRecording(file: FileHandle): Promise<Scanned> {
	const hash = createHash('sha256');
	let [bytes, lines, lastEventMs] = [0, 0, 0];
	let gaps = NO_GAPS;
	let lastMarker = '';
	for await (const line of linesOf(file)) {
		const text = line.toString('utf8');
		const event = lines === 0 ? undefined : decodeCastEvent(text);
		if (lines === 0 ? decodeCastHeader(text) === undefined : event === undefined) break;
		hash.update(line);
		bytes += line.length;
		lines += 1;
		lastEventMs = event?.atMs ?? lastEventMs;
		lastMarker = event?.code === 'm' ? event.text : '';
		gaps = withGap(gaps, lastMarker);
	}
	return { ...gaps, bytes, events: Math.max(0, lines - 1), lastEventMs, lastMarker, hash };
}

/** Whole lines with their newline. Ends at one that is longer than any of ours. */
async function* linesOf(file: FileHandle): AsyncGenerator<Buffer> {
	let rest = Buffer.alloc(0);
	for (let at = 0; ; ) {
		const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
		const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, at);
		if (bytesRead === 0) return;
		at += bytesRead;
		rest = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
		for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE)) {
			yield rest.subarray(0, end + 1);
			rest = rest.subarray(end + 1);
		}
		// UTF-8 has at most four bytes a character.
		if (rest.length > 4 * CAST_LINE_CHARACTERS_MAX) return;
	}
}
