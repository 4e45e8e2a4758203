import { chmodSync, chownSync, readSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import nodePty from 'node-pty/requireBinary.js';
import { type Clock, systemClock } from '../../kit/clock.ts';
import type { UnixUser } from '../process-host/users.ts';
import type { Launch, Program, ProgramEvents } from './program.ts';
import type { ChannelSize } from './pty-host.ts';
import { PtyWriter } from './pty-writer.ts';
import { ReadSlab, ROOM_BYTES } from './read-slab.ts';

/**
 * A program on a pseudo-terminal. node-pty's binding forks and resizes; its JavaScript wrapper isn't used, because it
 * destroys the stream 200 ms after the program's exit, read or not: what a slow reader had not taken would be lost.
 */
const binding = nodePty.requireBinary('pty.node');
/** `tty(4)`: the user's, and writable for the group, as login(1) and sshd leave it. */
const TTY_MODE = 0o620;

export function startOnPty(
	launch: Launch,
	size: ChannelSize,
	user: UnixUser | undefined,
	events: ProgramEvents,
	clock: Clock = systemClock,
): Program {
	const env = Object.entries(launch.env).map(([name, value]) => `${name}=${value}`);
	const { file, args } = launch;
	const forked = binding.fork(file, [...args], env, '/', size.columns, size.rows, -1, -1, true, '', (code, signal) =>
		events.onExit(signal === 0 ? { exitCode: code } : { signal }),
	);
	if (user !== undefined) {
		// Else programs that open their terminal by name (screen, gpg) are refused: it belongs to us.
		chownSync(forked.pty, user.uid, -1);
		chmodSync(forked.pty, TTY_MODE);
	}
	const slab = new ReadSlab();
	const callback = (bytes: number) => {
		events.onData('stdout', slab.took(bytes + readOn(forked.fd, slab, bytes)));
		return true;
	};
	const stream = new ReadStream(forked.fd, { onread: { buffer: () => slab.room(), callback } });
	const writer = new PtyWriter(forked.fd, () => !stream.destroyed, clock);
	let isOver = false;
	const over = () => {
		if (isOver) return;
		isOver = true;
		writer.close();
		events.onEnd('stdout');
	};
	// EIO is how the last close of the other side looks from here.
	stream.on('error', () => stream.destroy());
	stream.on('end', () => stream.destroy());
	stream.on('close', over);
	stream.resume();
	return {
		pid: forked.pid,
		write: (bytes, done) => {
			if (!stream.destroyed) writer.write(bytes, done);
		},
		endInput: () => {},
		pause: () => void stream.pause(),
		resume: () => void stream.resume(),
		resize: ({ columns, rows }) => {
			// From there on the descriptor is closed, or another's; 'close' comes a turn later.
			if (!stream.destroyed) binding.resize(forked.fd, columns, rows);
		},
		destroy: () => void stream.destroy(),
	};
}

/** Taken at once of a flood: a part of a terminal's window, which may be passed by as much. */
const AT_ONCE_BYTES = 16 << 10;

/**
 * What the kernel has behind a read that it filled. Each 4 KiB costs a turn of the loop otherwise, ten times what it
 * takes to read them.
 */
function readOn(fd: number, slab: ReadSlab, readBytes: number): number {
	let bytes = readBytes;
	let isFull = bytes >= ROOM_BYTES - 1;
	while (isFull && bytes < AT_ONCE_BYTES) {
		const room = slab.roomBehind(bytes);
		if (room === undefined) break;
		const more = readNow(fd, room);
		bytes += more;
		isFull = more >= ROOM_BYTES - 1;
	}
	return bytes - readBytes;
}

/** 0 where there is nothing now, or no more: whoever reads next is told which. */
function readNow(fd: number, room: Buffer): number {
	try {
		return readSync(fd, room);
	} catch {
		return 0;
	}
}
