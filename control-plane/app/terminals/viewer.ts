import type { MessageInitShape } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { Stream } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import type { AttachTerminalResponseSchema } from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { ShareMode } from '../../store/port/terminals.ts';
import { viewerResumeBytes, viewerStallMs, viewerWindowBytes } from './limits.ts';

export type ViewerMessage = NonNullable<MessageInitShape<typeof AttachTerminalResponseSchema>['message']>;
export type Output = 'stdout' | 'stderr';

/** How far one output stream has come at one viewer. */
interface Progress {
	sent: number;
	acked: number;
	isOver: boolean;
}

/** Of these only the newest matters: a viewer that doesn't read must not gather them. */
const STATES: ReadonlySet<ViewerMessage['case']> = new Set(['size', 'viewers', 'link', 'ack', 'notice']);
/** What waits goes together up to this: a window of single bytes would cost a hundred times as much. */
const MERGED_BYTES_MAX = 4096;

/**
 * One attachment: what it was sent, what it has acknowledged, and whether it follows. `following` gets every byte;
 * `waiting` gets the next screen; `behind` gets nothing until it has caught up, and then waits for a screen. Without a
 * terminal there is no screen, so it always follows and the program waits for it.
 */
export class Viewer {
	readonly principalId: string;
	/** For people. */
	readonly name: string;
	readonly mode: ShareMode;
	/** To the last byte: of a pipe, the end waits for it. */
	readonly acknowledges: boolean;
	state: 'following' | 'waiting' | 'behind' = 'waiting';
	readonly #now: () => number;
	/** Monotonic: when it last took something, or was last within what nobody needs to have taken. */
	#progressAtMs: number;
	readonly #hasScreen: boolean;
	/** Whoever doesn't acknowledge has taken what was pulled. */
	readonly #isPulled: boolean;
	readonly #progress: Readonly<Record<Output, Progress>> = {
		stdout: { sent: 0, acked: 0, isOver: false },
		stderr: { sent: 0, acked: 0, isOver: false },
	};
	readonly #onProgress: () => void;
	#queue: ViewerMessage[] = [];
	#wake: (() => void) | undefined;
	#isOver = false;
	#failure: GpuaasError | undefined;
	#stdinAcked = 0;

	constructor(options: {
		readonly principalId: string;
		readonly name: string;
		readonly mode: ShareMode;
		readonly hasScreen: boolean;
		readonly isPulled: boolean;
		readonly acknowledges: boolean;
		/** Monotonic. */
		readonly now: () => number;
		readonly onProgress: () => void;
	}) {
		this.principalId = options.principalId;
		this.name = options.name;
		this.mode = options.mode;
		this.acknowledges = options.acknowledges;
		this.#now = options.now;
		this.#progressAtMs = options.now();
		this.#hasScreen = options.hasScreen;
		this.#isPulled = options.isPulled;
		this.#onProgress = options.onProgress;
	}

	/** Sent and not acknowledged. */
	get unackedBytes(): number {
		const { stdout, stderr } = this.#progress;
		return stdout.sent - stdout.acked + stderr.sent - stderr.acked;
	}

	acked(stream: Output): number {
		return this.#progress[stream].acked;
	}

	startAt(stream: Output, offset: number): void {
		this.#progress[stream].sent = offset;
		this.#progress[stream].acked = offset;
	}

	/** Gets every byte of its terminal from `offset`. */
	follow(offset: number): void {
		this.state = 'following';
		this.startAt('stdout', offset);
		this.#progressAtMs = this.#now();
	}

	tell(message: ViewerMessage): void {
		if (this.#isOver) return;
		if (STATES.has(message.case)) this.#queue = this.#queue.filter((queued) => queued.case !== message.case);
		this.#queue.push(message);
		this.#wake?.();
	}

	output(stream: Output, offset: number, data: Uint8Array<ArrayBuffer>, end: boolean): void {
		if (this.state !== 'following') return;
		const progress = this.#progress[stream];
		if (this.#hasScreen && this.unackedBytes + data.length > viewerWindowBytes) {
			this.state = 'behind';
			return;
		}
		// What it has from before, on another connection, isn't repeated.
		const fresh = data.subarray(Math.max(0, progress.sent - offset));
		if (fresh.length === 0 && (!end || progress.isOver)) return;
		progress.isOver ||= end;
		// From here on it may be late: before, there was nothing to take, or too little to tell of.
		if (this.unackedBytes < viewerResumeBytes) this.#progressAtMs = this.#now();
		progress.sent = Math.max(progress.sent, offset + data.length);
		const from = BigInt(progress.sent - fresh.length);
		const last = this.#queue.at(-1);
		const isSmall = last?.case === 'output' && (last.value.data?.length ?? 0) + fresh.length <= MERGED_BYTES_MAX;
		if (isSmall && last.value.stream === STREAM[stream]) {
			const merged = Buffer.concat([last.value.data ?? new Uint8Array(), fresh]);
			const value = { ...last.value, data: merged, end: end || last.value.end === true };
			this.#queue[this.#queue.length - 1] = { case: 'output', value };
		} else this.tell({ case: 'output', value: { stream: STREAM[stream], offset: from, data: fresh, end } });
	}

	screen(value: Extract<ViewerMessage, { case: 'screen' }>['value']): void {
		this.follow(Number(value.offset));
		// It takes the place of all that was not read yet.
		this.#queue = this.#queue.filter((queued) => queued.case !== 'output' && queued.case !== 'screen');
		this.tell({ case: 'screen', value });
	}

	/** Throws when it acknowledges what it never got. */
	ack(stream: Output, offset: number): void {
		const progress = this.#progress[stream];
		if (offset > progress.sent)
			throw new GpuaasError({
				code: 'INVALID_ARGUMENT',
				reason: 'INVALID_REQUEST',
				message: `${stream} was sent up to ${progress.sent} and ${offset} was acknowledged; attach again`,
			});
		if (offset <= progress.acked) return;
		progress.acked = offset;
		this.#progressAtMs = this.#now();
		this.#onProgress();
	}

	/** Behind, and caught up since: it may see the screen. */
	get isReady(): boolean {
		return this.state === 'behind' && this.unackedBytes < viewerResumeBytes;
	}

	/** It follows, and has taken nothing of what waits for too long. Of a few bytes nobody is told that they were taken. */
	get isStalled(): boolean {
		if (this.state !== 'following' || this.unackedBytes < viewerResumeBytes) return false;
		return this.#now() - this.#progressAtMs > viewerStallMs;
	}

	/** So much more of what it typed has reached the program. */
	inputTaken(bytes: number): void {
		this.#stdinAcked += bytes;
		this.tell({ case: 'ack', value: { stream: Stream.STDIN, offset: BigInt(this.#stdinAcked) } });
	}

	/** Without a terminal it is the only one, and what it sends has its place in the program's stdin. */
	inputTakenUntil(offset: number): void {
		this.inputTaken(offset - this.#stdinAcked);
	}

	stdinStartsAt(offset: number): void {
		this.#stdinAcked = offset;
	}

	get isClosed(): boolean {
		return this.#isOver;
	}

	/** Ends the messages after what is queued; with a failure, at once: whoever may not be here sees nothing more. */
	close(failure?: GpuaasError): void {
		if (this.#isOver) return;
		this.#isOver = true;
		this.#failure = failure;
		if (failure !== undefined) this.#queue = [];
		this.#wake?.();
	}

	/** Until `close`; throws what it was closed with. One reader. */
	async *messages(signal: AbortSignal): AsyncGenerator<ViewerMessage, void, void> {
		const ring = () => this.#wake?.();
		signal.addEventListener('abort', ring);
		try {
			for (;;) {
				for (let message = this.#queue.shift(); message !== undefined; message = this.#queue.shift()) {
					yield message;
					if (this.#isPulled) this.#pulled(message);
				}
				signal.throwIfAborted();
				if (this.#isOver) {
					if (this.#failure !== undefined) throw this.#failure;
					return;
				}
				await new Promise<void>((resolve) => {
					this.#wake = resolve;
				});
				this.#wake = undefined;
			}
		} finally {
			signal.removeEventListener('abort', ring);
		}
	}

	/** As `messages`, for whoever says of each when the next may come; undefined: at once. */
	deliver(send: (message: ViewerMessage) => Promise<void> | undefined, signal: AbortSignal): Promise<void> {
		return new Promise((resolve, reject) => {
			let isBusy = false;
			const end = (settle: () => void) => {
				signal.removeEventListener('abort', wake);
				this.#wake = undefined;
				// What comes late finds nobody.
				isBusy = true;
				settle();
			};
			const next = async (): Promise<void> => {
				isBusy = true;
				try {
					for (let message = this.#queue.shift(); message !== undefined; message = this.#queue.shift()) {
						const sending = send(message);
						if (sending !== undefined) await sending;
						if (this.#isPulled) this.#pulled(message);
					}
					signal.throwIfAborted();
					if (this.#failure !== undefined) throw this.#failure;
				} catch (error) {
					return end(() => reject(error));
				}
				isBusy = false;
				if (this.#isOver) end(resolve);
			};
			// A turn of promises later: what comes with it may go together.
			const wake = () => {
				if (isBusy) return;
				isBusy = true;
				void Promise.resolve().then(next);
			};
			signal.addEventListener('abort', wake);
			this.#wake = wake;
			wake();
		});
	}

	#pulled(message: ViewerMessage): void {
		if (message.case !== 'output') return;
		const { stream, offset, data } = message.value;
		const name = stream === Stream.STDERR ? 'stderr' : 'stdout';
		const progress = this.#progress[name];
		// A screen since then has taken its place.
		progress.acked = Math.max(progress.acked, Number(offset ?? 0n) + (data?.length ?? 0));
		this.#progressAtMs = this.#now();
		this.#onProgress();
	}
}

const STREAM = { stdout: Stream.STDOUT, stderr: Stream.STDERR } as const;
