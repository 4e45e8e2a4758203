/** Bytes both ways between the two ends of a channel, however they travel. */
export interface BytePipe {
	/** Resolves when the other side, or the buffers on the way to it, can take more. Rejects once the pipe is broken. */
	write(bytes: Uint8Array): Promise<void>;
	/** Ends when the other side has said its last; throws when the pipe breaks. Read by one. */
	readonly incoming: AsyncIterable<Uint8Array>;
}

/** A pair of Node streams as a pipe: standard input and output of a program, or both sides of a test. */
export function streamPipe(incoming: AsyncIterable<Uint8Array>, outgoing: NodeJS.WritableStream): BytePipe {
	return {
		incoming,
		write: (bytes) =>
			new Promise((resolve, reject) => {
				outgoing.write(bytes, (error) => (error ? reject(error) : resolve()));
			}),
	};
}
