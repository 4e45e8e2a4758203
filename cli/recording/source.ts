import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Client } from '@connectrpc/connect';
import {
	CAST_LINE_CHARACTERS_MAX,
	type CastEvent,
	type CastHeader,
	decodeCastEvent,
	decodeCastHeader,
} from '../../kit/asciicast.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { RecordingService } from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';

/** Where a recording comes from: the control plane by id, or a file that was exported. */
export type RecordingClient = Client<typeof RecordingService>;

const PAGE_BYTES = 1024 * 1024;

export async function* recordingBytes(client: RecordingClient, recordingId: string): AsyncGenerator<Uint8Array> {
	for (let offset = 0n; ; ) {
		const { data, nextOffset, complete } = await client.readRecording({ recordingId, offset, bytesMax: PAGE_BYTES });
		yield data;
		if (complete || data.length === 0) return;
		offset = nextOffset;
	}
}

export async function isFile(path: string): Promise<boolean> {
	return (await stat(path).catch(() => undefined))?.isFile() === true;
}

export function fileBytes(path: string): AsyncIterable<Uint8Array> {
	return createReadStream(path, { highWaterMark: PAGE_BYTES }) as AsyncIterable<Uint8Array>;
}

interface Cast {
	readonly header: CastHeader;
	readonly events: AsyncGenerator<CastEvent>;
}

/** Header and events of an asciicast v2 stream. Throws for what is none; lines of kinds that came later are passed over. */
export async function readCast(bytes: AsyncIterable<Uint8Array>, name: string): Promise<Cast> {
	const lines = linesOf(bytes, name);
	const first = await lines.next();
	const header = first.done === true ? undefined : decodeCastHeader(first.value);
	if (header === undefined) throw noCast(name);
	return { header, events: eventsOf(lines) };
}

async function* eventsOf(lines: AsyncGenerator<string>): AsyncGenerator<CastEvent> {
	for await (const line of lines) {
		const event = decodeCastEvent(line);
		if (event !== undefined) yield event;
	}
}

async function* linesOf(bytes: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<string> {
	const decoder = new TextDecoder();
	let rest = '';
	for await (const chunk of bytes) {
		rest += decoder.decode(chunk, { stream: true });
		const lines = rest.split('\n');
		rest = lines.pop() ?? '';
		if (rest.length > CAST_LINE_CHARACTERS_MAX) throw noCast(name);
		yield* lines;
	}
	if (rest !== '') yield rest;
}

function noCast(name: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: `${name} is no recording (asciicast v2); export one with gpuaas terminal export ID`,
		metadata: { exit: '2' },
	});
}
