import type { ClientHttp2Stream } from 'node:http2';
import { Http2SessionManager } from '@connectrpc/connect-node';

/**
 * The connection to a control plane, whose answers can be read at any time. In Node 24 an answer that has come to its
 * end before its reader begins, as on a busy machine, fails with "Premature close" instead of being read: the reader
 * that Node makes asks whether the stream is closed, which for HTTP/2 says that nothing more will come, not that
 * nothing is left. test/integration/late-reader.test.ts holds this against the pinned Node.
 */
export class ApiSessions extends Http2SessionManager {
	override async request(...args: Parameters<Http2SessionManager['request']>): Promise<ClientHttp2Stream> {
		const stream = await super.request(...args);
		return Object.assign(stream, { [Symbol.asyncIterator]: () => chunksOf(stream) });
	}
}

async function* chunksOf(stream: ClientHttp2Stream): AsyncGenerator<Buffer, undefined, undefined> {
	let wake = () => {};
	let failure: Error | undefined;
	const look = () => wake();
	const fail = (error: Error) => {
		failure = error;
		wake();
	};
	stream.on('readable', look).on('end', look).on('close', look).on('error', fail);
	try {
		for (;;) {
			const chunk: Buffer | null = stream.destroyed ? null : stream.read();
			if (chunk !== null) yield chunk;
			else if (failure !== undefined) throw failure;
			else if (stream.readableEnded) return undefined;
			else if (stream.destroyed) throw stream.errored ?? new Error('the answer broke off');
			else {
				await new Promise<void>((resolve) => {
					wake = resolve;
				});
			}
		}
	} finally {
		// Its error is nobody's any more, and must not be uncaught.
		stream.off('readable', look).off('end', look).off('close', look);
		if (!stream.readableEnded) stream.destroy();
	}
}
