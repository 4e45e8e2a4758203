/**
 * Standard output and error of a daemon. Whoever started it may be gone before it is ready (`up` was killed, a `| head` has
 * what it wanted): what nobody reads is dropped, where Node would end the process with a stack. Log lines don't come this
 * way (kit/log.ts). Called by the mains of the daemons, once.
 */
/** EIO: a terminal that hung up. */
const READER_GONE: ReadonlySet<string> = new Set(['EPIPE', 'ERR_STREAM_DESTROYED', 'EIO']);

export function outliveReaders(): void {
	for (const stream of [process.stdout, process.stderr])
		stream.on('error', (error: NodeJS.ErrnoException) => {
			if (!READER_GONE.has(error.code ?? '')) throw error;
		});
}
