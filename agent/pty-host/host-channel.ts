import type { Clock, Timer } from '../../kit/clock.ts';
import { buffersCame } from '../../kit/young-garbage.ts';
import { ProtocolError } from '../process-host/framing.ts';
import { readStat, signal } from '../process-host/proc.ts';
import type { TaskBox } from '../process-host/task-box.ts';
import { FlushPace } from './flush-pace.ts';
import * as bounds from './limits.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { Program, ProgramEvents } from './program.ts';
import type { ChannelListener, ChannelOutcome, ChannelSize, ChannelStatus, OutputName } from './pty-host.ts';
import { Screen } from './screen.ts';
import { endSession, killSession } from './session.ts';
import type { Turns } from './turns.ts';

/**
 * One program and what is known of its streams. Until somebody attached for the first time everything is kept for them,
 * up to a window. Later, with a terminal and nobody attached, output goes to the screen only and the program runs on.
 */
export interface ChannelParts {
	readonly clock: Clock;
	readonly id: string;
	readonly user: string;
	readonly tty: ChannelSize | undefined;
	readonly box: TaskBox;
	/** Of all channels of the host. */
	readonly turns: Turns;
	/** Once, when the program and all its output are over. */
	readonly onEnded: () => void;
}

interface Output {
	readonly name: OutputName;
	readonly buffer: OutputBuffer;
	sent: number;
	isOver: boolean;
	isEndSent: boolean;
	isPaused: boolean;
	/** Something of it was let go since the end: nothing may follow the gap. */
	isCut: boolean;
}

type Exit = Parameters<ProgramEvents['onExit']>[0];

export class HostChannel {
	readonly #parts: ChannelParts;
	readonly #outputs: Readonly<Record<OutputName, Output>>;
	readonly #screen: Screen | undefined;
	#size: ChannelSize | undefined;
	#program: Program | undefined;
	#listener: ChannelListener | undefined;
	#isFresh = true;
	/** Output waits while a screen is on its way, so that the two stay in order. */
	#isHeld = false;
	readonly #pace: FlushPace;
	#stdinNext = 0;
	#stdinAcked = 0;
	/** What the listener was told of it. */
	#stdinTold = 0;
	#stdinTimer: Timer | undefined;
	#isStdinOver = false;
	#exit: Exit | undefined;
	#outcome: ChannelOutcome | undefined;
	/** To the listener. */
	#isEndTold = false;
	#endedBy: { readonly reason: string; readonly message: string } | undefined;

	constructor(parts: ChannelParts) {
		this.#parts = parts;
		const output = (name: OutputName, isOver: boolean): Output => ({
			name,
			buffer: new OutputBuffer(),
			sent: 0,
			isOver,
			isEndSent: false,
			isPaused: false,
			isCut: false,
		});
		this.#outputs = { stdout: output('stdout', false), stderr: output('stderr', parts.tty !== undefined) };
		const gatherBytes = parts.tty === undefined ? bounds.pipeGatherBytes : bounds.ttyGatherBytes;
		this.#pace = new FlushPace(parts.clock, gatherBytes, () => this.#flush());
		this.#size = parts.tty;
		this.#screen = parts.tty === undefined ? undefined : new Screen(parts.tty, parts.turns, () => this.#regulate());
	}

	/** `launch` starts the program and tells it to these events. */
	start(launch: (events: ProgramEvents) => Program): number {
		this.#program = launch({
			onData: (stream, bytes) => this.#onData(this.#outputs[stream], bytes),
			onEnd: (stream) => {
				this.#outputs[stream].isOver = true;
				this.#flush();
				this.#conclude();
			},
			onExit: (exit) => this.#onExit(exit),
		});
		return this.#program.pid;
	}

	get status(): ChannelStatus {
		const { id, user, tty } = this.#parts;
		const { stdout, stderr } = this.#outputs;
		// Keys have no second sender: what a terminal's program has not read yet waits here, and the next comes after it.
		const stdin = tty === undefined ? this.#stdinAcked : this.#stdinNext;
		const offsets = { stdin, stdout: stdout.buffer.first, stderr: stderr.buffer.first };
		const outcome = this.#outcome === undefined ? {} : { outcome: this.#outcome };
		const size = this.#size === undefined ? {} : { size: this.#size };
		return { id, user, tty: tty !== undefined, ...size, offsets, ...outcome };
	}

	get hasEnded(): boolean {
		return this.#outcome !== undefined;
	}

	attach(from: Readonly<Record<OutputName, number>>, listener: ChannelListener): void {
		this.#listener = listener;
		this.#isEndTold = false;
		this.#isFresh = false;
		let isLost = false;
		for (const output of Object.values(this.#outputs)) {
			const { buffer } = output;
			const asked = Math.min(from[output.name], buffer.next);
			isLost ||= asked < buffer.first;
			output.sent = Math.max(asked, buffer.first);
			output.isEndSent = false;
		}
		this.#tellStdin();
		// Nothing may follow a gap: the screen first. One that is on its way already is looked at when it comes.
		if (isLost && this.#screen !== undefined && !this.#isHeld) this.#sendScreen(this.#screen);
		else this.#flush();
		this.#regulate();
	}

	/** Only whoever is attached detaches; an older attachment that leaves late changes nothing. */
	detach(listener: ChannelListener): void {
		if (this.#listener !== listener) return;
		this.#listener = undefined;
		this.#letGo();
		this.#regulate();
	}

	/** Throws ProtocolError for what breaks the rules; nothing of it is taken. */
	write(offset: number, bytes: Buffer, end: boolean): void {
		if (this.#endedBy !== undefined) return;
		if (offset > this.#stdinNext) throw new ProtocolError(`stdin has a gap at ${this.#stdinNext}`);
		const fresh = bytes.subarray(this.#stdinNext - offset);
		if (this.#stdinNext + fresh.length - this.#stdinAcked > bounds.stdinWindowBytes)
			throw new ProtocolError(`more than ${bounds.stdinWindowBytes} bytes of stdin wait for the program`);
		this.#noteActivity();
		this.#pace.asked();
		this.#stdinNext += fresh.length;
		const until = this.#stdinNext;
		if (fresh.length > 0) {
			if (this.#exit !== undefined) this.#ackStdin(until);
			else this.#program?.write(fresh, () => this.#ackStdin(until));
		}
		if (!end || this.#isStdinOver) return;
		this.#isStdinOver = true;
		this.#program?.endInput();
	}

	ack(stream: OutputName, offset: number): void {
		const output = this.#outputs[stream];
		if (offset > output.sent && this.#endedBy !== undefined) return;
		if (offset > output.sent) throw new ProtocolError(`${stream} was sent up to ${output.sent}, not ${offset}`);
		output.buffer.forget(offset);
		this.#regulate();
	}

	resize(size: ChannelSize): void {
		if (this.#screen === undefined) return;
		this.#size = size;
		this.#screen.resize(size);
		this.#program?.resize(size);
	}

	requestScreen(): void {
		if (this.#screen === undefined || this.#isHeld) return;
		this.#flush();
		this.#sendScreen(this.#screen);
	}

	#sendScreen(screen: Screen): void {
		this.#isHeld = true;
		const { stdout } = this.#outputs;
		const offset = stdout.buffer.next;
		void screen.snapshot().then(({ size, bytes }) => {
			this.#isHeld = false;
			// Drawn for the listener before: of what was let go since, whoever came now would not see anything.
			if (offset < stdout.sent) return this.#sendScreen(screen);
			this.#listener?.onScreen(offset, size, bytes);
			this.#flush();
		});
	}

	/** To the foreground of its terminal, else to the group that its leader began. */
	signal(name: NodeJS.Signals): void {
		const pid = this.#program?.pid;
		if (pid === undefined || this.#exit !== undefined) return;
		const foreground = this.#parts.tty === undefined ? pid : (readStat(pid)?.foregroundGroupId ?? pid);
		signal(foreground > 0 ? -foreground : -pid, name);
	}

	end(reason: string, message: string): void {
		if (this.#outcome !== undefined || this.#endedBy !== undefined) return;
		this.#endedBy = { reason, message };
		// Nobody waits for its output any more: a program that waits for room must be able to leave.
		this.#isFresh = false;
		this.#regulate();
		const { clock, box } = this.#parts;
		const pid = this.#program?.pid;
		if (pid !== undefined && this.#exit === undefined) endSession(clock, pid, box);
		// Whoever left the session with our streams in hand would hold the channel open, and write, for ever.
		clock.setTimer(() => {
			if (this.#outcome === undefined) this.#program?.destroy();
		}, bounds.closeGraceMs);
	}

	/** Kills at once; for the end of the host. */
	destroy(): void {
		if (this.#program !== undefined && this.#outcome === undefined) killSession(this.#program.pid, this.#parts.box);
		this.#program?.destroy();
		this.dispose();
	}

	/** When it is forgotten. */
	dispose(): void {
		this.#stdinTimer?.cancel();
		this.#screen?.dispose();
		this.#parts.box.remove();
	}

	#onData(output: Output, bytes: Buffer): void {
		buffersCame(bytes.length);
		// It can't be made to wait any more, so what nobody takes is let go.
		if (this.#endedBy !== undefined) output.isCut ||= output.buffer.bytes + bytes.length > this.#windowBytes;
		if (output.isCut) return;
		this.#noteActivity();
		output.buffer.append(bytes);
		if (this.#endedBy === undefined || !this.#isBehind()) this.#screen?.feed(bytes);
		this.#letGo();
		this.#pace.came(bytes.length, output.buffer.next - output.sent);
		this.#regulate();
		if (output.isPaused) this.#pace.now();
	}

	#isBehind(): boolean {
		return (this.#screen?.behindBytes ?? 0) >= bounds.screenBacklogBytes;
	}

	#noteActivity(): void {
		this.#parts.turns.note(this.#screen ?? this);
	}

	/** With a terminal and nobody there, the screen is all that is kept. */
	#letGo(): void {
		const isWatched = this.#listener !== undefined || this.#isFresh;
		const { buffer } = this.#outputs.stdout;
		if (this.#parts.tty !== undefined && !isWatched) buffer.forget(buffer.next);
	}

	#flush(): void {
		const listener = this.#listener;
		if (listener === undefined || this.#isHeld) return;
		for (const output of Object.values(this.#outputs)) {
			const { buffer, name } = output;
			while (output.sent < buffer.next) {
				const bytes = buffer.read(output.sent, bounds.dataBytesMax);
				const offset = output.sent;
				output.sent += bytes.length;
				listener.onOutput(name, offset, bytes, false);
			}
			if (!output.isOver || output.isEndSent || this.#parts.tty !== undefined) continue;
			output.isEndSent = true;
			listener.onOutput(name, output.sent, Buffer.alloc(0), true);
		}
		if (this.#outcome === undefined || this.#isEndTold) return;
		this.#isEndTold = true;
		listener.onEnd(this.#outcome);
	}

	/** Bulk is told of at once; keys a little later and together: one message each would be ahead of each one's echo. */
	#ackStdin(offset: number): void {
		this.#stdinAcked = Math.max(this.#stdinAcked, offset);
		if (this.#stdinAcked - this.#stdinTold >= bounds.stdinAckBytes) this.#tellStdin();
		else this.#stdinTimer ??= this.#parts.clock.setTimer(() => this.#tellStdin(), bounds.stdinAckDelayMs);
	}

	#tellStdin(): void {
		this.#stdinTimer?.cancel();
		this.#stdinTimer = undefined;
		this.#stdinTold = this.#stdinAcked;
		this.#listener?.onStdinAck(this.#stdinAcked);
	}

	/** Of unacknowledged output, for each stream. */
	get #windowBytes(): number {
		return this.#parts.tty === undefined ? bounds.pipeWindowBytes : bounds.ttyWindowBytes;
	}

	/** Lets the program write, or not, by what is unacknowledged and by how far the screen is behind. */
	#regulate(): void {
		const windowBytes = this.#windowBytes;
		const resumeBytes = this.#parts.tty === undefined ? bounds.pipeResumeBytes : bounds.ttyResumeBytes;
		const behindBytes = this.#screen?.behindBytes ?? 0;
		// What is costly to read waits at the program, not here, where it would be read long after it was written.
		const isSlow = this.#screen?.isSlow === true;
		const behindMax = isSlow ? bounds.screenBacklogBytes : bounds.screenBacklogBytesMax;
		const behindLow = isSlow ? bounds.screenBacklogBytes : bounds.screenBacklogBytesMax / 2;
		for (const output of Object.values(this.#outputs)) {
			// A terminal is one stream: whoever lets its stderr go on lets all of it go on.
			if (output.name === 'stderr' && this.#parts.tty !== undefined) continue;
			const { bytes } = output.buffer;
			// What was told to end is read to its end, and what there is no room for is let go.
			const isFull = this.#endedBy === undefined && (bytes >= windowBytes || behindBytes >= behindMax);
			const isLow = this.#endedBy !== undefined || (bytes < resumeBytes && behindBytes < behindLow);
			if (!output.isPaused && isFull) {
				output.isPaused = true;
				this.#program?.pause(output.name);
			} else if (output.isPaused && isLow) {
				output.isPaused = false;
				this.#pace.resumed();
				this.#program?.resume(output.name);
			}
		}
	}

	#onExit(exit: Exit): void {
		this.#exit = exit;
		this.#ackStdin(this.#stdinNext);
		const { clock, box } = this.#parts;
		const pid = this.#program?.pid;
		// Whatever its leader left behind ends with it, and closes the streams that it holds.
		if (pid !== undefined) endSession(clock, pid, box);
		this.#closeLater();
		this.#conclude();
	}

	/** A process that can't be killed holds them: what it has written by then is all that there is. */
	#closeLater(): void {
		this.#parts.clock.setTimer(() => {
			if (this.#outcome !== undefined) return;
			if (this.#isWaiting()) this.#closeLater();
			else this.#program?.destroy();
		}, bounds.closeGraceMs);
	}

	/** Whether output is still held back for a reader. */
	#isWaiting(): boolean {
		return Object.values(this.#outputs).some(({ isPaused }) => isPaused);
	}

	#conclude(): void {
		const exit = this.#exit;
		if (exit === undefined || this.#outcome !== undefined) return;
		if (!Object.values(this.#outputs).every(({ isOver }) => isOver)) return;
		const { exitCode, signal } = exit;
		const own = { reason: exit.reason ?? 'TERMINAL_EXITED', message: exit.message ?? '' };
		this.#outcome = {
			...(exitCode !== undefined && { exitCode }),
			...(signal !== undefined && { signal }),
			...(this.#endedBy ?? own),
		};
		this.#flush();
		this.#parts.onEnded();
	}
}
