import { create } from '@bufbuild/protobuf';
import { type OutputChunk, OutputChunkSchema, OutputStream } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { OutputPiece } from '../control/command-sink.ts';
import type { OutputRecord, ProcessHost, TaskKey } from './process-host.ts';

/** Output of this size or less goes with the receipt, and needs no stream of its own. */
export const INLINE_BYTES_MAX = 16 * 1024;
/** link.proto: TaskFinished.output. */
const INLINE_CHUNKS_MAX = 256;

/**
 * The pieces of an attempt from `fromOffset`, live, until the task has ended and all was read. A gap is told by the
 * piece after it; at the very end by an empty piece.
 */
export async function* readPieces(
	host: ProcessHost,
	key: TaskKey,
	fromOffset: bigint,
	signal: AbortSignal,
): AsyncGenerator<OutputPiece, void, void> {
	const records = host.attach(key, Number(fromOffset))[Symbol.asyncIterator]();
	let onAbort = () => {};
	const aborted = new Promise<undefined>((resolve) => {
		onAbort = () => resolve(undefined);
		if (signal.aborted) resolve(undefined);
		else signal.addEventListener('abort', onAbort, { once: true });
	});
	let droppedBytes = 0;
	try {
		for (;;) {
			const next = await Promise.race([records.next(), aborted]);
			if (next === undefined || next.done) return;
			const record: OutputRecord = next.value;
			if (record.kind === 'GAP') droppedBytes += record.droppedBytes;
			if (record.kind === 'DATA') {
				const { stream, offset, bytes } = record;
				yield { offset: BigInt(offset), stream, data: bytes, droppedBytes: BigInt(droppedBytes) };
				droppedBytes = 0;
			}
			if (record.kind !== 'END') continue;
			if (droppedBytes > 0) {
				const data = new Uint8Array();
				yield { offset: BigInt(record.offset), stream: 'stdout', data, droppedBytes: BigInt(droppedBytes) };
			}
			return;
		}
	} finally {
		// Node keeps a signal made by AbortSignal.any, and all that its listeners see, for as long as one listens.
		signal.removeEventListener('abort', onAbort);
		// Not awaited: with a read under way it would wait for the task's next output.
		void records.return?.(undefined);
	}
}

/** All of a small output in few chunks; undefined when the streams alternate too often for that. */
export async function collectInline(
	host: ProcessHost,
	key: TaskKey,
	signal: AbortSignal,
): Promise<readonly OutputChunk[] | undefined> {
	const chunks: { offset: bigint; stream: OutputStream; data: Uint8Array[]; droppedBytes: bigint }[] = [];
	for await (const piece of readPieces(host, key, 0n, signal)) {
		const stream = piece.stream === 'stderr' ? OutputStream.STDERR : OutputStream.STDOUT;
		const last = chunks.at(-1);
		if (last !== undefined && last.stream === stream && piece.droppedBytes === 0n) last.data.push(piece.data);
		else chunks.push({ offset: piece.offset, stream, data: [piece.data], droppedBytes: piece.droppedBytes });
		if (chunks.length > INLINE_CHUNKS_MAX) return undefined;
	}
	return chunks.map((chunk) => create(OutputChunkSchema, { ...chunk, data: Buffer.concat(chunk.data) }));
}
