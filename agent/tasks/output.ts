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
	let leave = () => {};
	const onAbort = () => leave();
	signal.addEventListener('abort', onAbort, { once: true });
	let droppedBytes = 0;
	try {
		while (!signal.aborted) {
			// No race against one promise for all: it would keep every result, and so all that the task ever wrote.
			const next = await new Promise<IteratorResult<OutputRecord> | undefined>((resolve, reject) => {
				leave = () => resolve(undefined);
				records.next().then(resolve, reject);
			});
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

/**
 * As `readPieces`, of a task that runs. The control plane keeps at most twice the cap of one attempt: a task that writes
 * far more is shown live up to its cap, and the rest only once it has ended, when the spool has the head that was shown
 * already and the tail. Else the live middle would take the room of the last part, which is the one that people look for.
 */
export async function* readPiecesLive(
	host: ProcessHost,
	key: TaskKey,
	fromOffset: bigint,
	signal: AbortSignal,
	capBytes: number,
): AsyncGenerator<OutputPiece, void, void> {
	let nextOffset = fromOffset;
	let bytes = Number(fromOffset);
	for await (const piece of readPieces(host, key, fromOffset, signal)) {
		yield piece;
		nextOffset = piece.offset + BigInt(piece.data.length);
		bytes += piece.data.length + PIECE_OVERHEAD_BYTES;
		if (bytes < capBytes) continue;
		await untilEnded(host, key, signal);
		// A new reader: this one would first give what it has read ahead, and that is the middle.
		if (!signal.aborted) yield* readPieces(host, key, nextOffset, signal);
		return;
	}
}

/** At least what the control plane counts for a piece beside its data. */
const PIECE_OVERHEAD_BYTES = 32;

/** Also when it is too late to know: the host was lost. */
async function untilEnded(host: ProcessHost, key: TaskKey, signal: AbortSignal): Promise<void> {
	const over = Promise.withResolvers<void>();
	const unsubscribe = host.subscribe((event) => {
		if (event.kind === 'ENDED' && event.result.taskId === key.taskId && event.result.attempt === key.attempt)
			over.resolve();
	});
	const onAbort = () => over.resolve();
	signal.addEventListener('abort', onAbort, { once: true });
	void host.closed.then(() => over.resolve());
	try {
		const found = await host.result(key);
		if (found.kind === 'NOT_ENDED' && !signal.aborted) await over.promise;
	} finally {
		unsubscribe();
		signal.removeEventListener('abort', onAbort);
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
