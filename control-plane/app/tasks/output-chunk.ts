import { type OutputChunk as ChunkMessage, OutputStream } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { OutputChunk } from './output-store.ts';

/**
 * What an agent says that a task wrote, checked before anything keeps it: the store trusts what it is given. Used for
 * uploads and for output that comes with a receipt.
 */
export const CHUNK_BYTES_MAX = 1024 * 1024;

/**
 * What the store may hold of one attempt, its framing included (25 bytes a record). The process host counts its own
 * framing (13 bytes) against the cap of the task, so that what it keeps, even a byte a record, fits into twice the cap;
 * the MiB is for small caps. An agent that sends more is cut.
 */
export function storedBytesMax(outputBytesMax: number): number {
	return 2 * outputBytesMax + 1024 * 1024;
}

export type CheckedChunk =
	| { readonly kind: 'chunk'; readonly chunk: OutputChunk }
	| { readonly kind: 'invalid'; readonly message: string };

/** `fromOffset`: where the chunk before it ended; 0 for the first. */
export function checkChunk({ offset, stream, data, droppedBytes }: ChunkMessage, fromOffset: number): CheckedChunk {
	const invalid = (message: string): CheckedChunk => ({ kind: 'invalid', message });
	if (data.length > CHUNK_BYTES_MAX) return invalid(`a chunk has at most ${CHUNK_BYTES_MAX} bytes`);
	if (stream !== OutputStream.STDOUT && stream !== OutputStream.STDERR) return invalid('a chunk names its stream');
	if (offset + BigInt(data.length) > BigInt(Number.MAX_SAFE_INTEGER)) return invalid('an offset is out of range');
	if (offset - droppedBytes < BigInt(fromOffset)) return invalid('chunks come in order, and none twice');
	const name = stream === OutputStream.STDERR ? 'stderr' : 'stdout';
	return {
		kind: 'chunk',
		chunk: { offset: Number(offset), stream: name, data, droppedBytes: Number(droppedBytes) },
	};
}
