import { expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { pidsWith, uniqueSeconds, until } from '../process-host/host-fixture.ts';
import { sessionBoxes } from '../process-host/task-box.ts';
import { nodeWaiter } from '../process-host/waiter.ts';
import { HostChannel } from './host-channel.ts';
import {
	closeGraceMs,
	dataBytesMax,
	pipeWindowBytes,
	screenBacklogBytes,
	stdinAckBytes,
	stdinAckDelayMs,
	ttyWindowBytes,
} from './limits.ts';
import { startOnPipes } from './pipe-program.ts';
import type { ProgramEvents } from './program.ts';
import { Turns } from './turns.ts';

/** No process has it: whoever ends it ends nobody. */
const NOBODY = 0x7fff_fff0;
/** As one that began a session of its own and holds the streams of its channel. */
const ESCAPED = `${uniqueSeconds()}-escaped`;

test('who left its session and writes on neither fills memory nor holds an ended channel open', async () => {
	const clock = new VirtualClock();
	const seen = { writtenBytes: 0, sentBytes: 0, hasExited: false, isOver: false };
	const channel = new HostChannel({
		clock,
		id: 'one',
		user: 'nobody',
		tty: undefined,
		box: sessionBoxes.create('one', {}),
		turns: new Turns(clock),
		onEnded: () => {
			seen.isOver = true;
		},
	});
	const argv = ['-c', `trap "" HUP; setsid yes ${ESCAPED} & exit 0`];
	channel.start((events) =>
		startOnPipes({ file: '/bin/sh', args: argv, env: { PATH: '/usr/bin:/bin' } }, nodeWaiter, {
			...events,
			onData: (stream, bytes) => {
				seen.writtenBytes += bytes.length;
				events.onData(stream, bytes);
			},
			onExit: (exit) => {
				events.onExit(exit);
				seen.hasExited = true;
			},
		}),
	);
	channel.attach(
		{ stdout: 0, stderr: 0 },
		{
			onOutput: (_stream, _offset, bytes) => {
				seen.sentBytes += bytes.length;
			},
			onStdinAck: () => {},
			onScreen: () => {},
			onEnd: () => {},
		},
	);
	/** Flushes come a turn later. */
	const eventually = (what: string, is: () => boolean) =>
		until(() => {
			clock.advance(0);
			if (!is()) throw new Error(`not yet: ${what}`);
		});
	try {
		await eventually('its window is full', () => seen.hasExited && seen.sentBytes >= pipeWindowBytes);
		clock.advance(closeGraceMs);
		expect(seen.isOver, 'its output still waits for its reader').toBe(false);
		channel.end('TERMINAL_KILLED', 'enough');
		await eventually('it writes on', () => seen.writtenBytes > 16 * pipeWindowBytes);
		expect(seen.sentBytes).toBeLessThan(pipeWindowBytes + 2 * dataBytesMax);
		channel.ack('stdout', seen.sentBytes);
		const writtenBytes = seen.writtenBytes;
		const sentBytes = seen.sentBytes;
		await eventually('it writes on', () => seen.writtenBytes > writtenBytes + pipeWindowBytes);
		expect(seen.sentBytes, 'nothing follows a gap').toBe(sentBytes);
		clock.advance(closeGraceMs);
		await eventually('it is over', () => seen.isOver);
		expect(channel.status.outcome).toMatchObject({ exitCode: 0, reason: 'TERMINAL_KILLED' });
		await eventually('it is gone', () => pidsWith(ESCAPED).length === 0);
	} finally {
		for (const pid of pidsWith(ESCAPED)) process.kill(pid, 'SIGKILL');
		channel.destroy();
	}
});

test('what was typed is acknowledged together and after its echo, bulk at once, and all of it to who comes later', () => {
	const clock = new VirtualClock();
	const acks: number[] = [];
	const channel = new HostChannel({
		clock,
		id: 'two',
		user: 'nobody',
		tty: undefined,
		box: sessionBoxes.create('two', {}),
		turns: new Turns(clock),
		onEnded: () => {},
	});
	const nothing = () => {};
	channel.start(() => ({
		pid: NOBODY,
		write: (_bytes, done) => done(),
		endInput: nothing,
		pause: nothing,
		resume: nothing,
		resize: nothing,
		destroy: nothing,
	}));
	const listener = {
		onOutput: nothing,
		onScreen: nothing,
		onEnd: nothing,
		onStdinAck: (offset: number) => void acks.push(offset),
	};
	channel.attach({ stdout: 0, stderr: 0 }, listener);
	expect(acks.splice(0)).toEqual([0]);
	channel.write(0, Buffer.from('l'), false);
	channel.write(1, Buffer.from('s'), false);
	expect(acks).toEqual([]);
	clock.advance(stdinAckDelayMs);
	expect(acks.splice(0)).toEqual([2]);
	channel.write(2, Buffer.alloc(stdinAckBytes), false);
	expect(acks.splice(0)).toEqual([2 + stdinAckBytes]);
	channel.write(2 + stdinAckBytes, Buffer.from('q'), false);
	channel.attach({ stdout: 0, stderr: 0 }, listener);
	expect(acks.splice(0)).toEqual([3 + stdinAckBytes]);
	clock.advance(stdinAckDelayMs);
	expect(acks).toEqual([]);
	channel.dispose();
});

/** A channel whose program is told what the host tells it, and does nothing. */
function silent(id: string, tty: { readonly columns: number; readonly rows: number } | undefined) {
	const clock = new VirtualClock();
	const told: string[] = [];
	let program: ProgramEvents | undefined;
	const nothing = () => {};
	const channel = new HostChannel({
		clock,
		id,
		user: 'nobody',
		tty,
		box: sessionBoxes.create(id, {}),
		turns: new Turns(clock),
		onEnded: nothing,
	});
	channel.start((events) => {
		program = events;
		return {
			pid: NOBODY,
			write: (bytes) => void told.push(`write ${Buffer.from(bytes)}`),
			endInput: nothing,
			pause: (stream) => void told.push(`pause ${stream}`),
			resume: (stream) => void told.push(`resume ${stream}`),
			resize: nothing,
			destroy: () => void told.push('destroy'),
		};
	});
	const seen = { sent: 0, ends: 0 };
	channel.attach(
		{ stdout: 0, stderr: 0 },
		{
			onOutput: (_stream: string, offset: number, bytes: Buffer) => {
				if (bytes.length > 0) seen.sent = offset + bytes.length;
			},
			onScreen: nothing,
			onEnd: () => {
				seen.ends += 1;
			},
			onStdinAck: nothing,
		},
	);
	const says = (bytes: Buffer) => program?.onData('stdout', bytes);
	/** Its streams are held by another. */
	const leaves = () => program?.onExit({ exitCode: 0 });
	const exits = () => {
		program?.onEnd('stdout');
		program?.onEnd('stderr');
		leaves();
	};
	return { clock, channel, told, seen, says, leaves, exits };
}

test('a terminal whose window is full waits for its reader, also when its screen was late and has caught up', () => {
	const { clock, channel, told, seen, says } = silent('three', { columns: 80, rows: 24 });
	// Coloured, so that the screen reads all of it; what was read before it was told to wait may still come.
	const line = Buffer.from(`\u001b[31m${'x'.repeat(4000)}\r\n`);
	for (let bytes = 0; bytes < 2 * screenBacklogBytes; bytes += line.length) says(line);
	expect(told).toEqual(['pause stdout']);
	clock.advance(60_000);
	expect(seen.sent).toBeGreaterThan(ttyWindowBytes);
	expect(told, 'nobody has acknowledged anything').toEqual(['pause stdout']);
	channel.ack('stdout', seen.sent);
	expect(told).toEqual(['pause stdout', 'resume stdout']);
	channel.dispose();
});

test.each([0, 1])(
	'a pipe that was held back goes on with the first acknowledgement of a reader, %i byte past its window',
	(over) => {
		const { channel, told, says } = silent('four', undefined);
		if (over > 0) says(Buffer.alloc(pipeWindowBytes - over));
		for (let bytes = 0; bytes < (over > 0 ? 1 : pipeWindowBytes); bytes += dataBytesMax)
			says(Buffer.alloc(dataBytesMax));
		expect(told).toEqual(['pause stdout']);
		channel.ack('stdout', 256 << 10);
		expect(told).toEqual(['pause stdout', 'resume stdout']);
		channel.dispose();
	},
);

test('the end is told once, also after a flood whose last piece was still to go', () => {
	const { clock, channel, seen, says, exits } = silent('five', undefined);
	for (let bytes = 0; bytes < 16 * dataBytesMax; bytes += 4096) says(Buffer.alloc(4096));
	exits();
	clock.advance(60_000);
	expect(seen).toEqual({ sent: 16 * dataBytesMax, ends: 1 });
	channel.dispose();
});

test('who left its session with the pipe in hand holds no channel open once its reader has taken all', () => {
	const { clock, channel, told, seen, says, leaves } = silent('six', undefined);
	says(Buffer.alloc(2 * pipeWindowBytes));
	leaves();
	clock.advance(3 * closeGraceMs);
	expect(told, 'its reader is slow').toEqual(['pause stdout']);
	channel.ack('stdout', seen.sent);
	clock.advance(closeGraceMs);
	expect(told).toEqual(['pause stdout', 'resume stdout', 'destroy']);
	channel.dispose();
});

test('who comes while a screen is drawn for the one before gets one that their output goes on from', async () => {
	const { clock, channel, says } = silent('seven', { columns: 80, rows: 24 });
	const listening = () => {
		const seen: string[] = [];
		return {
			seen,
			onOutput: (_stream: string, offset: number, bytes: Buffer) => void seen.push(`${bytes} at ${offset}`),
			onScreen: (offset: number, _size: unknown, bytes: Buffer) =>
				void seen.push(`screen at ${offset}${bytes.includes('abcdef') ? ' with all' : ''}`),
			onEnd: () => {},
			onStdinAck: () => {},
		};
	};
	const [before, now] = [listening(), listening()];
	channel.attach({ stdout: 0, stderr: 0 }, before);
	says(Buffer.from('abc'));
	channel.requestScreen();
	channel.detach(before);
	// Nobody is there: only the screen has it.
	says(Buffer.from('def'));
	channel.attach({ stdout: 3, stderr: 0 }, now);
	says(Buffer.from('ghi'));
	await until(() => {
		clock.advance(60_000);
		if (now.seen.length < 1) throw new Error('nothing came');
	});
	says(Buffer.from('jkl'));
	clock.advance(60_000);
	expect(before.seen).toEqual(['abc at 0']);
	expect(now.seen).toEqual(['screen at 9 with all', 'ghi at 6', 'jkl at 9']);
	channel.dispose();
});

test('what is missing to who comes is drawn before anything that follows it', async () => {
	const { clock, channel, says } = silent('eight', { columns: 80, rows: 24 });
	const seen: string[] = [];
	const listener = {
		onOutput: (_stream: string, offset: number) => void seen.push(`output at ${offset}`),
		onScreen: (offset: number) => void seen.push(`screen at ${offset}`),
		onEnd: () => {},
		onStdinAck: () => {},
	};
	channel.attach({ stdout: 0, stderr: 0 }, listener);
	channel.detach(listener);
	says(Buffer.from('abc'));
	channel.attach({ stdout: 3, stderr: 0 }, listener);
	says(Buffer.from('def'));
	clock.advance(60_000);
	seen.length = 0;
	channel.attach({ stdout: 1, stderr: 0 }, listener);
	await until(() => {
		clock.advance(60_000);
		if (seen.length < 2) throw new Error('not yet');
	});
	expect(seen).toEqual(['screen at 6', 'output at 3']);
	channel.dispose();
});

test('keys that a program has not read keep their place, and those of the next control plane come after them', () => {
	const { channel, told } = silent('keys', { columns: 80, rows: 24 });
	channel.write(0, Buffer.from('ab'), false);
	const { stdin } = channel.status.offsets;
	channel.write(stdin, Buffer.from('cd'), false);
	expect(told).toEqual(['write ab', 'write cd']);
	channel.dispose();
	// Without a terminal whoever sends it has it still, and sends again what the program was not given.
	const piped = silent('pipe', undefined);
	piped.channel.write(0, Buffer.from('ab'), false);
	piped.channel.write(piped.channel.status.offsets.stdin, Buffer.from('abcd'), false);
	expect(piped.told).toEqual(['write ab', 'write cd']);
	piped.channel.dispose();
});
