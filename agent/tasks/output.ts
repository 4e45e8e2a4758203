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
 * piece after it; at the very end by an empty piece. Returns whether that was so: without it there is more, which was not
 * read because the signal fired.
 */
export async function* readPieces(
	host: ProcessHost,
	key: TaskKey,
	fromOffset: bigint,
	signal: AbortSignal,
): AsyncGenerator<OutputPiece, boolean, void> {
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
			if (next === undefined || next.done) return false;
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
			return true;
		}
		return false;
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
): AsyncGenerator<OutputPiece, boolean, void> {
	let nextOffset = fromOffset;
	let bytes = Number(fromOffset);
	const pieces = readPieces(host, key, fromOffset, signal);
	try {
		while (bytes < capBytes) {
			const next = await pieces.next();
			if (next.done) return next.value;
			yield next.value;
			nextOffset = next.value.offset + BigInt(next.value.data.length);
			bytes += next.value.data.length + PIECE_OVERHEAD_BYTES;
		}
	} finally {
		await pieces.return(false);
	}
	await untilEnded(host, key, signal);
	// A new reader: that one would first give what it has read ahead, and that is the middle.
	return yield* readPieces(host, key, nextOffset, signal);
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

/** All of a small output in few chunks; undefined when the streams alternate too often for that, or `signal` came first. */
export async function collectInline(
	host: ProcessHost,
	key: TaskKey,
	signal: AbortSignal,
): Promise<readonly OutputChunk[] | undefined> {
	const chunks: { offset: bigint; stream: OutputStream; data: Uint8Array[]; droppedBytes: bigint }[] = [];
	const pieces = readPieces(host, key, 0n, signal);
	for (;;) {
		const next = await pieces.next();
		if (next.done) {
			if (!next.value) return undefined;
			break;
		}
		const piece = next.value;
		const stream = piece.stream === 'stderr' ? OutputStream.STDERR : OutputStream.STDOUT;
		const last = chunks.at(-1);
		if (last !== undefined && last.stream === stream && piece.droppedBytes === 0n) last.data.push(piece.data);
		else chunks.push({ offset: piece.offset, stream, data: [piece.data], droppedBytes: piece.droppedBytes });
		if (chunks.length <= INLINE_CHUNKS_MAX) continue;
		await pieces.return(false);
		return undefined;
	}
	return chunks.map((chunk) => create(OutputChunkSchema, { ...chunk, data: Buffer.concat(chunk.data) }));
}
