import { constants, openSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { ReadStream } from 'node:tty';

/** Linux names whatever stdout is; elsewhere it is the terminal that we were started on. */
const NAMES = ['/proc/self/fd/1', '/dev/tty'];

/**
 * The terminal that stdout is, once more: its writes wait for it and hold up nothing else. Those of `process.stdout` hold
 * up the whole program while a terminal takes nothing, and then not even `~.` is read. Undefined where it can't be opened
 * by name (another account's, after `su`). Called by shells and by commands with a terminal.
 */
export function openTerminal(): Writable | undefined {
	for (const name of NAMES) {
		try {
			// The stream for reading is the one that Node leaves non-blocking; it reads nothing unless asked.
			const stream = new ReadStream(openSync(name, constants.O_RDWR | constants.O_NOCTTY));
			// It hung up: then SIGHUP comes too, and whoever writes is told.
			stream.on('error', () => {});
			return stream;
		} catch {
			// By another name, or not at all.
		}
	}
	return undefined;
}
