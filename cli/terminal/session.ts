import { constants } from 'node:os';
import { sleep, type Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { ChannelEnd } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { AttachMode, type Terminal, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { Api } from '../client.ts';
import { EXIT } from '../exit-codes.ts';
import { Interruption, type Io, printable, printJson, READER_LEFT, write, writeNow } from '../io.ts';
import { ChannelClient } from './channel-client.ts';
import { ESCAPE_HELP, EscapeFilter } from './escapes.ts';
import { takeTerminal } from './local-terminal.ts';
import { tellOutages } from './outage.ts';
import { endedEvent, outcomeOf, outputEvent } from './outcome.ts';

export interface AttachOptions {
	readonly mode: AttachMode;
	readonly readsStdin: boolean;
	/** A program without a terminal ends with us: when nobody reads its output any more, as a local one by SIGPIPE, and by SIGTERM. */
	readonly endsWithReader?: boolean;
	/** For a program: an event a line on standard output. Only without a terminal. */
	readonly asEvents?: boolean;
}

/** Puts our terminal, or our three streams, at the end of a remote one until it ends or we leave. The exit code. */
export async function attachTo(
	io: Io,
	api: Api,
	terminal: Pick<Terminal, 'id' | 'nodeName' | 'tty'>,
	options: AttachOptions,
): Promise<number> {
	return terminal.tty ? await interactive(io, api, terminal, options.mode) : await piped(io, api, terminal, options);
}

async function interactive(
	io: Io,
	api: Api,
	{ id, nodeName }: Pick<Terminal, 'id' | 'nodeName'>,
	mode: AttachMode,
): Promise<number> {
	const local = takeTerminal(io);
	const say = (text: string) => void write(local.notes, text);
	const client = new ChannelClient(
		io,
		api.client(TerminalService),
		{ terminalId: id, mode, tty: true, size: () => local.size() },
		{
			output: (_stream, data) => writeNow(local.output, data),
			async screen(screen) {
				await write(local.output, local.clear);
				await write(local.output, screen.data);
			},
			...tellOutages({ stderr: local.notes }, nodeName, true),
			notice: (message) => say(`\r\ngpuaas: ${printable(message)}\r\n`),
		},
	);
	const stopResizing = local.onResize(() => client.resize(local.size()));
	const leave = new AbortController();
	const stopTyping = mode === AttachMode.CONTROL ? typeInto(io, say, api, client, id, leave) : watchKeys(io, leave);
	let isClean = false;
	try {
		const result = await client.run(AbortSignal.any([io.interrupt, leave.signal]));
		isClean = result.kind === 'ended' && result.end.exitCode !== undefined;
		local.restore(isClean);
		if (result.kind === 'ended') return await conclude(io, nodeName, result.end);
		if (leave.signal.reason === ENDED) {
			await isOut(io, local.output);
			return EXIT.channelFailed;
		}
		const unended = leave.signal.reason === UNENDED;
		const why = unended ? 'it could not be ended now, and goes on' : 'detached; it goes on';
		// A terminal that takes nothing would hold us up here.
		if (await isOut(io, local.output))
			await write(io.stderr, `gpuaas: ${why}. Back to it: gpuaas terminal attach ${id}\n`);
		if (unended) return EXIT.channelFailed;
		return io.interrupt.aborted ? EXIT.interrupted : EXIT.ok;
	} finally {
		stopTyping();
		stopResizing();
		local.restore(isClean);
	}
}

/** How long what is on its way to our terminal, and what puts it right, may take when we leave. */
const LEAVE_WAIT_MS = 1000;

/** Whether all that was written is out: what is not, once the program ends, is lost. */
async function isOut(io: Io, output: Io['stdout']): Promise<boolean> {
	const done = new AbortController();
	try {
		const late = sleep(io.clock, LEAVE_WAIT_MS, done.signal).then(() => false);
		return await Promise.race([write(output, '').then(() => true), late]);
	} finally {
		done.abort();
	}
}

/** `~.` was typed, and nobody said that it has ended. */
const UNENDED = Symbol('unended');
/** It was ended, and how did not come to be read: behind output that our terminal doesn't take. */
const ENDED = Symbol('ended');
/** From `~.` on: whoever is stuck must get out, also where nobody answers. */
const END_WAIT_MS = 2000;

/** More than anybody pastes by hand. */
const HELD_BYTES_MAX = 4 * 1024 * 1024;
const LOSS =
	'\r\ngpuaas: more was typed than can wait for the program, and the rest is not sent. ~. ends it, ~d leaves it\r\n';

function endIt(io: Io, api: Api, terminalId: string, leave: AbortController): void {
	let outcome = UNENDED;
	const goAway = () => leave.abort(outcome);
	const killed = () => {
		outcome = ENDED;
	};
	api.client(TerminalService).killTerminal({ terminalId }).then(killed, goAway);
	io.clock.setTimer(goAway, END_WAIT_MS);
}

/** Keys go to the program, but for escape sequences. */
function typeInto(
	io: Io,
	say: (text: string) => void,
	api: Api,
	client: ChannelClient,
	id: string,
	leave: AbortController,
): () => void {
	const filter = new EscapeFilter();
	let isOver = false;
	const goOn = () => {
		if (!isOver && !client.isFull) io.stdin.resume();
	};
	// A person's keys are read whatever waits, or `~.` behind a paste would not be; a program's output waits at its pipe.
	const isPerson = io.stdin.isTTY === true;
	let heldBytes = 0;
	let isLossTold = false;
	const type = (bytes: Uint8Array) => {
		if (isPerson && client.isFull && heldBytes + bytes.length > HELD_BYTES_MAX) {
			if (!isLossTold) say(LOSS);
			isLossTold = true;
			return;
		}
		heldBytes += bytes.length;
		const taken = () => {
			heldBytes -= bytes.length;
			if (heldBytes === 0) isLossTold = false;
			goOn();
		};
		// What it ended with, or why it may not be reached, is said by whoever runs it.
		client.write(bytes).then(taken, () => {});
		if (client.isFull && !isPerson) io.stdin.pause();
	};
	const onData = (bytes: Buffer) => {
		const { send, escapes } = filter.push(bytes);
		if (send.length > 0) type(send);
		for (const asked of escapes) {
			if (asked === 'help') say(ESCAPE_HELP);
			else if (asked === 'detach') leave.abort();
			else endIt(io, api, id, leave);
		}
	};
	const stop = reading(io, onData, () => leave.abort());
	return () => {
		isOver = true;
		stop();
	};
}

/** Whoever observes leaves by `q`, Ctrl-C or Ctrl-D. */
function watchKeys(io: Io, leave: AbortController): () => void {
	const onData = (bytes: Buffer) => {
		if (['q', '\u0003', '\u0004'].some((key) => bytes.includes(key))) leave.abort();
	};
	return reading(io, onData, () => {});
}

function reading(io: Io, onData: (bytes: Buffer) => void, onEnd: () => void): () => void {
	io.stdin.on('data', onData);
	io.stdin.once('end', onEnd);
	return () => {
		io.stdin.removeListener('data', onData);
		io.stdin.removeListener('end', onEnd);
		io.stdin.pause();
	};
}

async function piped(
	io: Io,
	api: Api,
	{ id, nodeName }: Pick<Terminal, 'id' | 'nodeName'>,
	{ mode, readsStdin, endsWithReader = false, asEvents = false }: AttachOptions,
): Promise<number> {
	const client = new ChannelClient(
		io,
		api.client(TerminalService),
		{ terminalId: id, mode, tty: false },
		{
			output: (stream, data) =>
				asEvents
					? printJson(io, outputEvent(id, stream, data))
					: writeNow(stream === 'stderr' ? io.stderr : io.stdout, data),
			...tellOutages(io, nodeName, false),
		},
	);
	const leave = new AbortController();
	const readerLeft = () => io.interrupt.reason === READER_LEFT;
	const end = () => (endsWithReader ? endIt(io, api, id, leave) : leave.abort());
	let grace: Timer | undefined;
	const onInterrupt = () => {
		const name = signalOf(io.interrupt);
		if (readerLeft() || (endsUs(name) && !endsWithReader)) return end();
		client.signal(name);
		if (endsUs(name)) grace = io.clock.setTimer(end, SIGNAL_GRACE_MS);
	};
	// Ctrl-C again leaves it running; whoever ends us, or goes away, doesn't come back to it.
	const onForce = () => (endsUs(signalOf(io.force)) ? end() : leave.abort());
	// Also one that came while the terminal was being opened.
	if (io.interrupt.aborted) onInterrupt();
	if (io.force.aborted) onForce();
	io.interrupt.addEventListener('abort', onInterrupt, { once: true });
	io.force.addEventListener('abort', onForce, { once: true });
	const feeding = readsStdin ? feed(io, client) : client.write(new Uint8Array(), true);
	feeding.catch(() => client.detach());
	try {
		const result = await client.run(leave.signal);
		if (leave.signal.reason === UNENDED)
			await write(
				io.stderr,
				`gpuaas: it could not be ended now, and goes on; end it with: gpuaas terminal kill ${id}\n`,
			);
		if (readerLeft()) return EXIT.brokenPipe;
		const last = signalOf(io.force.aborted ? io.force : io.interrupt);
		const signalled = EXIT.signalBase + constants.signals[`SIG${last}`];
		if (result.kind !== 'ended') return signalled;
		const isEndedByUs = io.interrupt.aborted && endsUs(last) && result.end.reason === 'TERMINAL_KILLED';
		const code = isEndedByUs ? signalled : outcomeOf(nodeName, result.end).code;
		if (asEvents) await printJson(io, endedEvent(id, code, result.end));
		else if (!isEndedByUs) await conclude(io, nodeName, result.end);
		return code;
	} finally {
		grace?.cancel();
		io.interrupt.removeEventListener('abort', onInterrupt);
		io.force.removeEventListener('abort', onForce);
		io.stdin.pause();
	}
}

/** How long a program may take to end upon a SIGTERM or SIGHUP of ours: whoever sent it waits for us. */
const SIGNAL_GRACE_MS = 5000;

function signalOf({ reason }: AbortSignal): Interruption['signal'] {
	return reason instanceof Interruption ? reason.signal : 'INT';
}

/** Nobody is at our end any more once these have come. */
function endsUs(name: Interruption['signal']): boolean {
	return name === 'TERM' || name === 'HUP';
}

async function feed(io: Io, client: ChannelClient): Promise<void> {
	for await (const chunk of io.stdin as AsyncIterable<Buffer>) await client.write(chunk);
	await client.write(new Uint8Array(), true);
}

async function conclude(io: Io, nodeName: string, end: ChannelEnd): Promise<number> {
	const { code, said } = outcomeOf(nodeName, end);
	if (said !== '') await write(io.stderr, `gpuaas: ${printable(said)}\n`);
	return code;
}

export function present(terminal: Terminal | undefined): Terminal {
	if (terminal !== undefined) return terminal;
	throw new GpuaasError({
		code: 'INTERNAL',
		reason: 'INTERNAL',
		message: 'the control plane answered without a terminal',
	});
}
