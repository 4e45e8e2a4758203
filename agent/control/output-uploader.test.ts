import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { type UploadOutputResponse, UploadOutputResponseSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { OutputPiece, OutputSource } from './command-sink.ts';
import type { ClientListener, LinkConnection } from './link-transport.ts';
import { OutputUploader } from './output-uploader.ts';

const PIECE_BYTES = 64 * 1024;
const MIB = 1024 * 1024;

test('what is on the way and not acknowledged is bounded, also to a gateway that takes everything', async () => {
	let readBytes = 0;
	const output: OutputSource = {
		async *read(_taskId, _attempt, fromOffset): AsyncIterable<OutputPiece> {
			for (let offset = fromOffset; offset < 64 * MIB; offset += BigInt(PIECE_BYTES)) {
				readBytes += PIECE_BYTES;
				yield { offset, stream: 'stdout', data: new Uint8Array(PIECE_BYTES), droppedBytes: 0n };
			}
		},
		pending: () => [{ taskId: 't', attempt: 1, fencingToken: 1n }],
		onPending: () => {},
		stored: () => {},
	};
	let gateway: ClientListener<UploadOutputResponse> | undefined;
	const stored = (storedOffset: number) =>
		gateway?.onFrame(create(UploadOutputResponseSchema, { storedOffset: BigInt(storedOffset) }));
	const connection = {
		uploadOutput: (listener: ClientListener<UploadOutputResponse>) => {
			gateway = listener;
			return {
				send: () => true,
				end: () => {},
				cancel: () => listener.onClosed({ code: 'CANCELLED', reason: '', message: '', retryAfterMs: 0 }),
			};
		},
	} as unknown as LinkConnection;
	const uploader = new OutputUploader({ clock: systemClock, rng: systemRng, log: silentLogger, output });
	const stopping = new AbortController();
	uploader.start(stopping.signal);
	uploader.setConnection(connection);
	/** Reads no more for as many turns as a piece takes many times over. */
	const settled = async () => {
		for (let before = -1; before !== readBytes; ) {
			before = readBytes;
			for (let turn = 0; turn < 20; turn += 1) await yieldTurn(systemClock);
		}
	};
	stored(0);
	await settled();
	// One more is in hand.
	expect(readBytes).toBe(4 * MIB + PIECE_BYTES);
	stored(MIB);
	await settled();
	expect(readBytes).toBe(5 * MIB + PIECE_BYTES);
	stopping.abort();
});
