import { GpuaasError } from '../../../kit/error.ts';
import type { ChannelHello, ChannelRequest } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import {
	type ChannelEnd,
	Stream,
	type StreamData,
	type WindowSize,
} from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { End, RelayHooks } from './channel-hooks.ts';
import { InputQueue } from './input-queue.ts';
import * as bounds from './limits.ts';
import type { NodeEnd, NodeEndListener } from './node-end.ts';
import { NodeOutput, protocol } from './node-output.ts';
import type { Recorder } from './recorder.ts';
import type { Output, Viewer, ViewerMessage } from './viewer.ts';

type Input = Pick<StreamData, 'offset' | 'end'> & { readonly data: Uint8Array<ArrayBuffer> };

/**
 * One channel between its node and whoever is attached. It keeps no output: the node keeps what was not acknowledged,
 * and draws the screen for those who come later. The node may send as much as the fastest viewer has taken (and the
 * recording has written); a viewer that is slower, or gone, gets the screen instead of the backlog. Without a terminal
 * there is one viewer, and the program waits for it.
 *
 * Input of all controlling viewers becomes one stream in the order of arrival, kept until the node has taken it.
 */
export class Relay {
	readonly terminal: TerminalRow;
	readonly #hooks: RelayHooks;
	readonly #viewers = new Set<Viewer>();
	readonly #input = new InputQueue<Viewer>();
	#node: NodeEnd | undefined;
	#isAccepted = false;
	/** Asked for while the node's stream is not there, or begins anew. */
	readonly #signals: string[] = [];
	#recorder: Recorder | undefined;
	#recording: Promise<void> | undefined;
	/** The recording begins in the middle: it wants the screen, whoever watches. */
	#recordsScreen = false;
	#notice = '';
	readonly #output: NodeOutput;
	#size: WindowSize | undefined;
	#onLastScreen: () => void = () => {};
	#wasAttached: boolean;
	/** Nothing of its output was asked for. */
	#isFresh: boolean;
	#ended: End | undefined;
	#isConcluding = false;
	/** Somebody was told that the node can't be reached. */
	#isAwayTold = false;
	/** Whoever reads, or read last, acknowledges all that it takes. */
	#isAcknowledged = false;
	/** Of a pipe: the node said it, and whoever reads has not taken all that came before. */
	#untaken: { readonly node: NodeEnd; readonly end: End } | undefined;
	/** The node said it and the store did not take it. */
	#unkept: { readonly node: NodeEnd; readonly end: End } | undefined;
	/** Monotonic. */
	#inputAtMs: number;

	constructor(terminal: TerminalRow, hooks: RelayHooks) {
		this.terminal = terminal;
		this.#hooks = hooks;
		this.#output = new NodeOutput(terminal.tty);
		this.#wasAttached = terminal.openedAtMs !== null;
		this.#isFresh = terminal.openedAtMs === null;
		this.#inputAtMs = hooks.clock.monotonic();
	}

	get viewers(): ReadonlySet<Viewer> {
		return this.#viewers;
	}

	get isConnected(): boolean {
		return this.#node !== undefined;
	}

	get ended(): Pick<ChannelEnd, 'reason' | 'message'> | undefined {
		return this.#ended;
	}

	/** The node said how it ended, and that is being kept. */
	get isConcluding(): boolean {
		return this.#isConcluding;
	}

	/** Its program is over, and what it wrote waits for its reader. */
	get isLeftover(): boolean {
		return this.#untaken !== undefined;
	}

	/** Since somebody typed. */
	get idleMs(): number {
		return this.#hooks.clock.monotonic() - this.#inputAtMs;
	}

	/** All streams of the node wait for the one recording; when it can't be asked for, the next one asks again. */
	recordOnce(open: () => Promise<void>): Promise<void> {
		this.#recording ??= open().catch((error: unknown) => {
			this.#recording = undefined;
			throw error;
		});
		return this.#recording;
	}

	/** What everybody here must know, now and when they come. */
	announce(message: string): void {
		this.#notice = message;
		for (const viewer of this.#viewers) viewer.tell({ case: 'notice', value: { message } });
	}

	record(recorder: Recorder): void {
		this.#recorder = recorder;
		recorder.onDrain(() => this.#pace());
		if (recorder.outputAt !== undefined) this.#output.goOnAt(recorder.outputAt);
		this.#recordsScreen = recorder.isLater;
		// Who came before it, and what they look at.
		if (this.#size !== undefined) recorder.resize(this.#size.columns, this.#size.rows);
		for (const viewer of this.#viewers) recorder.marker(attached(viewer));
	}

	/** The agent's stream; a newer one takes the place of an older. */
	connectNode(hello: ChannelHello, node: NodeEnd): NodeEndListener {
		this.#node?.end();
		this.#node = node;
		this.#isAccepted = false;
		this.#input.startAt(Number(hello.stdinOffset));
		this.#inputTaken(Number(hello.stdinOffset));
		this.#output.connect(hello);
		this.#recorder?.beginsAt(this.#output.received('stdout'));
		for (const viewer of this.#viewers) {
			viewer.tell({ case: 'link', value: { connected: true } });
			// What it was told meanwhile stands in the middle of what it looks at.
			if (this.terminal.tty && this.#isAwayTold) viewer.state = 'waiting';
		}
		this.#isAwayTold = false;
		// Before the first viewer the program's first words wait for them: they are more than a screen (queries, titles).
		if (this.#viewers.size > 0 || (this.#wasAttached && this.terminal.tty)) this.#accept();
		if (this.#ended !== undefined) node.send({ case: 'close', value: this.#ended });
		return {
			onFrame: (message) => this.#onFrame(node, message),
			onClosed: () => {
				if (this.#node !== node) return;
				this.#node = undefined;
				this.#tellAway();
			},
		};
	}

	/** `from`: where a pipe's output goes on. Throws when there are too many. */
	attach(viewer: Viewer, size: WindowSize | undefined, from: Readonly<Record<Output, number>> | undefined): void {
		if (this.#viewers.size >= (this.terminal.tty ? bounds.viewersMax : 1)) throw tooMany(this.terminal.tty);
		const isFirst = this.#viewers.size === 0;
		const wasAttached = this.#wasAttached;
		const isAway = this.#node === undefined;
		this.#viewers.add(viewer);
		this.#isAcknowledged = viewer.acknowledges;
		this.#recorder?.marker(attached(viewer));
		viewer.stdinStartsAt(this.#input.next);
		if (size !== undefined && viewer.mode === 'control') this.resize(viewer, size);
		if (this.terminal.tty) this.#showTerminal();
		else this.#showPipes(viewer, from ?? { stdout: 0, stderr: 0 });
		this.#wasAttached = true;
		if (this.#notice !== '') viewer.tell({ case: 'notice', value: { message: this.#notice } });
		// One that was never there is on its way.
		if (wasAttached && isAway) this.#tellAway();
		if (isFirst) this.#hooks.onWatched(true);
		this.#tellViewers();
		if (this.#ended !== undefined) this.#finish(viewer);
	}

	#tellAway(): void {
		this.#isAwayTold = true;
		for (const viewer of this.#viewers) viewer.tell({ case: 'link', value: { connected: false } });
	}

	get stdinOffset(): number {
		return this.#input.next;
	}

	/**
	 * Where the input of whoever attaches goes on. Whoever comes back to a pipe sends again what the node has not taken:
	 * what is only here is lost with this control plane. A pipe that another control plane had is numbered by its node,
	 * so it waits for that; until then also for the end of the viewer.
	 */
	async stdinFrom(viewer: Viewer, isBack: boolean, signal: AbortSignal): Promise<number> {
		if (this.terminal.tty) return this.#input.next;
		await this.#placed(viewer, signal);
		return isBack ? this.#input.acked : this.#input.next;
	}

	detach(viewer: Viewer): void {
		if (!this.#viewers.delete(viewer)) return;
		viewer.close();
		this.#recorder?.marker(`${viewer.name} detached`);
		this.#input.wake();
		this.#tellViewers();
		this.#pace();
		if (this.#viewers.size === 0) this.#hooks.onWatched(false);
	}

	async #placed(viewer: Viewer, signal: AbortSignal): Promise<void> {
		const { tty, openedAtMs } = this.terminal;
		if (!tty && openedAtMs !== null) await this.#input.placed(signal, () => viewer.isClosed);
	}

	/** Takes input, and waits while the node is behind with it. Throws at a gap in that of a pipe. */
	async write(viewer: Viewer, { offset: from, data, end }: Input, signal: AbortSignal): Promise<void> {
		await this.#placed(viewer, signal);
		const bytesMax = this.terminal.tty ? bounds.ttyInputBytesMax : bounds.pipeInputBytesMax;
		await this.#input.room(data.length, bytesMax, signal, () => !this.#viewers.has(viewer));
		if (!this.#viewers.has(viewer) || this.#input.isOver || this.#ended !== undefined) return;
		this.#inputAtMs = this.#hooks.clock.monotonic();
		// Keys of all viewers are one stream, in which nobody can number theirs.
		const fresh = this.terminal.tty ? data : this.#unseen(Number(from), data);
		if (fresh.length === 0 && !end) return;
		this.#recorder?.input(fresh);
		const { offset } = this.#input.push(fresh, end, viewer);
		if (this.#isAccepted) this.#sendInput(offset, fresh, end);
	}

	/** Whoever came back sends again what the node had not taken when they did. */
	#unseen(from: number, data: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
		const { next } = this.#input;
		if (from > next) throw protocol(`input has a gap at ${next}; attach again`);
		return data.subarray(next - from);
	}

	ack(viewer: Viewer, stream: Output, offset: number): void {
		viewer.ack(stream, offset);
	}

	resize(by: Viewer, size: WindowSize): void {
		if (!this.terminal.tty || !this.#viewers.has(by)) return;
		this.#size = size;
		this.#recorder?.resize(size.columns, size.rows);
		if (this.#isAccepted) this.#node?.send({ case: 'resize', value: size });
		for (const viewer of this.#viewers) if (viewer !== by) viewer.tell({ case: 'size', value: size });
	}

	signal(by: Viewer, name: string): void {
		if (!this.#viewers.has(by)) return;
		if (this.#isAccepted) this.#node?.send({ case: 'signal', value: { name } });
		else if (this.#signals.length < bounds.signalsWaitingMax) this.#signals.push(name);
	}

	/** Called after each progress of a viewer, and each second: see the class. */
	tick(): void {
		for (const viewer of this.#viewers) if (this.terminal.tty && viewer.isStalled) viewer.state = 'behind';
		this.#pace();
		if (this.#unkept !== undefined) void this.#conclude(this.#unkept.node, this.#unkept.end);
	}

	/** Ends it for everybody, now; the node is told to end the program. */
	end(reason: string, message: string): Pick<ChannelEnd, 'reason' | 'message'> {
		const ended = { reason, message };
		this.#ended ??= ended;
		// Where nobody ever came: else the node doesn't say that it has ended, and never forgets it.
		if (this.#node !== undefined && !this.#isAccepted) this.#accept();
		this.#node?.send({ case: 'close', value: ended });
		this.#finishAll();
		this.#concludeTaken();
		return ended;
	}

	/** Nothing more will be said to the node. */
	close(): void {
		this.#finishAll();
		this.#node?.end();
		this.#node = undefined;
	}

	/** Resolves when the recording is sealed. */
	async endRecording(why: string): Promise<void> {
		const recorder = this.#recorder;
		this.#recorder = undefined;
		await recorder?.end(why);
	}

	#showTerminal(): void {
		if (this.#node !== undefined && !this.#isAccepted) this.#accept();
		else this.#askScreens();
	}

	#showPipes(viewer: Viewer, from: Readonly<Record<Output, number>>): void {
		viewer.state = 'following';
		let isSentAgain = false;
		for (const stream of ['stdout', 'stderr'] as const) {
			const received = this.#output.received(stream);
			const start = this.#output.startAt(stream, from[stream]);
			viewer.startAt(stream, start);
			isSentAgain ||= start < received;
		}
		if (this.#node !== undefined && this.#isAccepted && isSentAgain) this.#beginAnew(this.#node);
		else if (this.#node !== undefined) this.#accept();
	}

	/**
	 * What was on its way to the reader before is sent once more, on a stream of its own: what still comes on this one
	 * doesn't follow on where that begins, and an end on it would be taken for the end of what is there.
	 */
	#beginAnew(node: NodeEnd): void {
		this.#node = undefined;
		this.#isAccepted = false;
		this.#untaken = undefined;
		node.end();
	}

	#accept(): void {
		const [stdout, stderr] = [this.#output.received('stdout'), this.#output.received('stderr')];
		this.#isAccepted = true;
		// It says so again, behind what it sends again.
		this.#untaken = undefined;
		this.#output.accept();
		// Everything from its first byte on comes: who is here needs no screen.
		if (this.#isFresh) for (const viewer of this.#viewers) viewer.follow(stdout);
		this.#isFresh = false;
		this.#node?.send({ case: 'accepted', value: { stdoutOffset: BigInt(stdout), stderrOffset: BigInt(stderr) } });
		// It may not have heard: what it was told on a stream that broke is lost, and one that has no room waits for it.
		for (const stream of ['stdout', 'stderr'] as const) {
			const acked = this.#output.acked(stream);
			if (acked > 0) this.#sendAck(stream, acked);
		}
		if (this.#size !== undefined) this.#node?.send({ case: 'resize', value: this.#size });
		for (const name of this.#signals.splice(0)) this.#node?.send({ case: 'signal', value: { name } });
		for (const { offset, data, end } of this.#input.pending())
			this.#sendInput(offset, data as Uint8Array<ArrayBuffer>, end);
		this.#askScreens();
	}

	#sendAck(stream: Output, offset: number): void {
		const number = stream === 'stderr' ? Stream.STDERR : Stream.STDOUT;
		this.#node?.send({ case: 'ack', value: { stream: number, offset: BigInt(offset) } });
	}

	#sendInput(offset: number, data: Uint8Array<ArrayBuffer>, end: boolean): void {
		this.#node?.send({ case: 'input', value: { stream: Stream.STDIN, offset: BigInt(offset), data, end } });
	}

	#onFrame(node: NodeEnd, message: ChannelRequest['message']): void {
		// Of a stream that another has replaced.
		if (this.#node !== node) return;
		switch (message.case) {
			case 'output':
				this.#onOutput(message.value);
				return;
			case 'ack':
				this.#inputTaken(Number(message.value.offset));
				return;
			case 'screen':
				this.#onScreen(message.value);
				return;
			case 'end':
				this.#untaken = { node, end: message.value };
				this.#concludeTaken();
				return;
			default:
				throw protocol('a channel says hello once');
		}
	}

	#onOutput(output: StreamData): void {
		// Ended for everybody: the node was told, and what its program still says is nobody's.
		if (this.#ended !== undefined) return;
		if ((this.#recorder?.backlogBytes ?? 0) > bounds.recorderBacklogBytesHardMax)
			throw protocol('more output came than its recording can be written; the stream begins again');
		const { stream, offset, fresh } = this.#output.take(output);
		if (fresh.length === 0 && !output.end) return;
		if (fresh.length > 0) this.#recorder?.output(fresh);
		for (const viewer of this.#viewers) viewer.output(stream, offset, fresh, output.end);
		this.#pace();
	}

	#onScreen(screen: Extract<ChannelRequest['message'], { case: 'screen' }>['value']): void {
		// The node could not send what lies between: for the recording and for all viewers the screen takes its place.
		const gapFrom = this.#output.takeScreen(Number(screen.offset));
		if (gapFrom !== undefined) this.#recorder?.gap(gapFrom, Number(screen.offset), screen.data);
		else if (this.#recordsScreen) this.#recorder?.screen(screen.data);
		this.#recordsScreen = false;
		for (const viewer of this.#viewers) if (viewer.state === 'waiting' || gapFrom !== undefined) viewer.screen(screen);
		this.#onLastScreen();
		this.#pace();
	}

	/** Asked once for all who wait: the answer comes in order with the output. */
	#askScreens(): void {
		const isWanted = this.#recordsScreen || [...this.#viewers].some(({ state }) => state === 'waiting');
		if (isWanted && this.#isAccepted && this.terminal.tty && this.#output.askScreen())
			this.#node?.send({ case: 'screen', value: {} });
	}

	#inputTaken(offset: number): void {
		const taken = this.#input.ack(offset);
		if (this.terminal.tty) for (const { owner, bytes } of taken) owner.inputTaken(bytes);
		else if (taken.length > 0) for (const viewer of this.#viewers) viewer.inputTakenUntil(this.#input.acked);
	}

	/** Lets the node send more, and shows the screen to those who have caught up. */
	readonly #pace = (): void => {
		for (const viewer of this.#viewers) if (viewer.isReady) viewer.state = 'waiting';
		this.#askScreens();
		if (!this.#isAccepted || (this.#recorder?.backlogBytes ?? 0) > bounds.recorderBacklogBytesMax) return;
		for (const stream of ['stdout', 'stderr'] as const) {
			const offset = this.#taken(stream);
			if (this.#output.ack(stream, offset)) this.#sendAck(stream, offset);
		}
		this.#concludeTaken();
	};

	/** A pipe of which the reader has not taken all that came. */
	get #isUnread(): boolean {
		if (this.terminal.tty || !this.#isAcknowledged) return false;
		return (['stdout', 'stderr'] as const).some((stream) => this.#output.acked(stream) < this.#output.received(stream));
	}

	/** The node forgets a pipe's output with its end: so the end waits until whoever reads has all of it, or it is ended. */
	#concludeTaken(): void {
		const untaken = this.#untaken;
		if (untaken === undefined || (this.#ended === undefined && this.#isUnread)) return;
		this.#untaken = undefined;
		void this.#conclude(untaken.node, untaken.end);
	}

	/** By the fastest who follows; with nobody, by us (a terminal), or not at all (a pipe). */
	#taken(stream: Output): number {
		const following = [...this.#viewers].filter(({ state }) => state === 'following');
		if (following.length > 0) return Math.max(...following.map((viewer) => viewer.acked(stream)));
		return this.terminal.tty ? this.#output.received(stream) : this.#output.acked(stream);
	}

	/** Also after an end of ours: the node may forget only when it is kept. */
	async #conclude(node: NodeEnd, end: End): Promise<void> {
		if (this.#isConcluding) return;
		this.#isConcluding = true;
		this.#unkept = undefined;
		try {
			if (this.#ended === undefined) await this.#lastScreens();
			const kept = this.#ended ?? end;
			await this.#hooks.onEnded(kept);
			this.#ended ??= kept;
			// Meanwhile another stream may have taken the place of the one that said it.
			(this.#node ?? node).send({ case: 'forget', value: {} });
			this.#finishAll();
		} catch (error) {
			this.#hooks.log.warn('how a terminal ended was not kept; it is tried again', {
				terminal: this.terminal.id,
				error,
			});
			this.#unkept = { node, end };
		} finally {
			this.#isConcluding = false;
		}
	}

	/** Whoever is behind sees how it ended: the node draws until it may forget. */
	async #lastScreens(): Promise<void> {
		const late = [...this.#viewers].filter(({ state }) => state !== 'following');
		if (late.length === 0 || !this.terminal.tty) return;
		for (const viewer of late) viewer.state = 'waiting';
		await new Promise<void>((resolve) => {
			const timer = this.#hooks.clock.setTimer(resolve, bounds.lastScreenMs);
			this.#onLastScreen = () => {
				timer.cancel();
				resolve();
			};
			this.#askScreens();
		});
	}

	#finishAll(): void {
		for (const viewer of this.#viewers) this.#finish(viewer);
	}

	#finish(viewer: Viewer): void {
		if (this.#ended !== undefined) viewer.tell({ case: 'end', value: this.#ended } as ViewerMessage);
		viewer.close();
		this.#input.wake();
	}

	#tellViewers(): void {
		const controlling = [...this.#viewers].filter(({ mode }) => mode === 'control').length;
		const value = { controlling, observing: this.#viewers.size - controlling };
		for (const viewer of this.#viewers) viewer.tell({ case: 'viewers', value });
	}

	/** For those who make viewers. */
	get now(): () => number {
		return () => this.#hooks.clock.monotonic();
	}

	get onProgress(): () => void {
		return this.#pace;
	}
}

function tooMany(isTerminal: boolean): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_VIEWERS',
		message: isTerminal
			? `${bounds.viewersMax} are attached, which is the limit; try again when somebody has left`
			: 'somebody is attached, and without a terminal only one can be',
	});
}

function attached({ name, mode }: Viewer): string {
	return `${name} attached (${mode})`;
}
