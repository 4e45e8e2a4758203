import { type CastCode, type CastEvent, CastText, encodeCastEvent } from '../../../kit/asciicast.ts';
import { type Clock, yieldTurn } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { EchoedInput } from './echoed-input.ts';
import { type Gaps, gapMarker, NO_GAPS, UNKNOWN_GAP, withGap } from './gap.ts';
import type { RecordingFile } from './recording-store.ts';

/**
 * Writes one terminal as asciicast v2 while it runs: events in order, written in the order of arrival, grouped while the
 * disk is busy. Whoever feeds it looks at `backlogBytes` and holds the terminal back, so memory stays bounded. The first
 * failure ends it: nothing after a gap is recorded as if there were none.
 */
export interface RecorderOptions {
	readonly clock: Clock;
	readonly file: RecordingFile;
	readonly recordsInput: boolean;
	/** Of the file: past it the recording ends as a full disk would end it. */
	readonly bytesMax: number;
	/** From 1. */
	readonly part: number;
	/** Of its output, where it begins; undefined: the part before doesn't say where it ended. */
	readonly outputAt: number | undefined;
	/** Once, at the first failure. */
	readonly onFailure: (error: GpuaasError) => void;
	/** Seals what is there. Never rejects. */
	readonly seal: (summary: RecordingSummary) => Promise<void>;
}

export interface RecordingSummary extends Gaps {
	readonly events: number;
	/** Why it ends before its terminal did; empty when it has its end. */
	readonly truncated: string;
	/** Of the terminal's output, where this part ends; null when a failure ended it. */
	readonly outputEnd: number | null;
}

/** Between two fsyncs while output comes: a power cut loses at most so much. */
const SYNC_EVERY_MS = 2000;
/** After a write: what a flood brings meanwhile is written together, since each write costs a thread its sleep. */
const GATHER_MS = 10;
/** So much is written at once, whenever it came: below what holds the terminal back (terminals/limits.ts). */
const GATHER_BYTES = 128 * 1024;
/** Of one event: its line stays below what readers take, however it is escaped. */
const EVENT_CHARACTERS_MAX = 64 * 1024;

export class TerminalRecorder {
	readonly #options: RecorderOptions;
	readonly #startMs: number;
	readonly #text = new CastText();
	readonly #echo = new EchoedInput();
	readonly #inputText = new CastText();
	readonly #drainListeners: (() => void)[] = [];
	/** Encoded when they are written: what they show goes on its way first. */
	#queue: CastEvent[] = [];
	#queuedBytes = 0;
	#writtenEvents = 0;
	/** The newest that waits is a size: another takes its place. */
	#endsWithSize = false;
	#gaps = NO_GAPS;
	#outputAt: number | undefined;
	/** Nothing of the terminal's output is in this part. */
	#isEmpty = true;
	#writing: Promise<void> | undefined;
	/** Monotonic: when the last write began. */
	#wroteAtMs = Number.NEGATIVE_INFINITY;
	/** Ends the wait for more. */
	#enough: () => void = () => {};
	#syncedAtMs: number;
	#failure: GpuaasError | undefined;
	#ended: Promise<void> | undefined;

	constructor(options: RecorderOptions) {
		this.#options = options;
		this.#outputAt = options.outputAt;
		this.#startMs = options.clock.monotonic();
		this.#syncedAtMs = this.#startMs;
	}

	/** Taken and not written. */
	get backlogBytes(): number {
		return this.#queuedBytes;
	}

	onDrain(listener: () => void): void {
		this.#drainListeners.push(listener);
	}

	/** After another: it begins with the screen, which a replay of it alone would lack. */
	get isLater(): boolean {
		return this.#options.part > 1;
	}

	get outputAt(): number | undefined {
		return this.#outputAt;
	}

	beginsAt(offset: number): void {
		if (this.#outputAt !== undefined) return;
		this.#outputAt = offset;
		this.#markGap(UNKNOWN_GAP);
	}

	/** Of the terminal, once and in order; any bytes. */
	output(data: Uint8Array): void {
		if (this.#ended === undefined && this.#outputAt !== undefined) this.#outputAt += data.length;
		this.#isEmpty = false;
		this.#show(data);
	}

	/** As it is now, beside the output. */
	screen(data: Uint8Array): void {
		this.marker('the screen as it was then');
		this.#show(data);
	}

	#show(data: Uint8Array): void {
		const text = this.#text.push(data);
		if (text === '') return;
		const echoed = this.#options.recordsInput ? this.#echo.shown(text, this.#nowMs()) : '';
		if (echoed !== '') this.#add('i', echoed);
		this.#add('o', text);
	}

	/** Of whoever types. Recorded only by policy, and only where the terminal shows it again. */
	input(data: Uint8Array): void {
		if (this.#options.recordsInput) this.#echo.typed(this.#inputText.push(data), this.#nowMs());
	}

	/** Sizes that come one after another leave the last: whoever sends a million of them fills no memory. */
	resize(columns: number, rows: number): void {
		// What waits then is what was shown before.
		if (this.#failure !== undefined || this.#ended !== undefined) return;
		if (this.#endsWithSize) this.#dropNewest();
		this.#add('r', `${columns}x${rows}`);
		this.#endsWithSize = this.#queue.length > 0;
	}

	/** Output from..to never came; `screen` stands in its place. */
	gap(from: number, to: number, screen: Uint8Array): void {
		this.#markGap(gapMarker(from, to, this.#isEmpty ? 'nothing was recorded then' : 'the link was down'));
		if (this.#ended === undefined) this.#outputAt = to;
		this.#isEmpty = false;
		this.#show(screen);
	}

	#markGap(marker: string): void {
		this.#gaps = withGap(this.#gaps, marker);
		this.marker(marker);
	}

	marker(text: string): void {
		this.#add('m', text.slice(0, 1024));
	}

	/** Seals it; resolves when that is done. Idempotent. */
	end(why: string): Promise<void> {
		this.#ended ??= this.#end(why, '');
		return this.#ended;
	}

	/** Seals it before its terminal has ended. Idempotent. */
	cut(why: string): Promise<void> {
		this.#ended ??= this.#end(`truncated: ${why}`, why);
		return this.#ended;
	}

	#nowMs(): number {
		return this.#options.clock.monotonic();
	}

	#add(code: CastCode, text: string): void {
		if (this.#failure !== undefined || this.#ended !== undefined) return;
		const atMs = this.#nowMs() - this.#startMs;
		this.#endsWithSize = false;
		this.#push({ atMs, code, text });
		if (this.#queuedBytes >= GATHER_BYTES) this.#enough();
		this.#writing ??= this.#write();
	}

	#push(event: CastEvent): void {
		this.#queue.push(event);
		this.#queuedBytes += bytesOf(event);
	}

	#dropNewest(): void {
		const event = this.#queue.pop();
		if (event !== undefined) this.#queuedBytes -= bytesOf(event);
	}

	async #write(): Promise<void> {
		// A turn later: what comes with it goes into the same write, and its echo to whoever typed goes before it.
		await yieldTurn(this.#options.clock);
		while (this.#queue.length > 0 && this.#failure === undefined) {
			await this.#gather();
			const [events, bytes] = [this.#queue, this.#queuedBytes];
			this.#queue = [];
			this.#endsWithSize = false;
			this.#wroteAtMs = this.#nowMs();
			try {
				const lines = events.flatMap((event) => [...linesOf(event)]);
				await this.#append(lines.join(''));
				this.#writtenEvents += lines.length;
			} catch (error) {
				this.#fail(error);
			}
			// After a failure nothing waits any more.
			this.#queuedBytes = this.#failure === undefined ? this.#queuedBytes - bytes : 0;
			for (const listener of this.#drainListeners) listener();
		}
		this.#writing = undefined;
	}

	async #gather(): Promise<void> {
		const waitMs = this.#wroteAtMs + GATHER_MS - this.#nowMs();
		if (waitMs <= 0 || this.#queuedBytes >= GATHER_BYTES || this.#ended !== undefined) return;
		await new Promise<void>((resolve) => {
			const timer = this.#options.clock.setTimer(resolve, waitMs);
			this.#enough = () => {
				timer.cancel();
				resolve();
			};
		});
	}

	async #append(text: string): Promise<void> {
		const { file, bytesMax } = this.#options;
		if (file.bytes + text.length > bytesMax) throw tooLarge(bytesMax);
		await file.append(text);
		if (this.#nowMs() - this.#syncedAtMs < SYNC_EVERY_MS) return;
		await file.sync();
		this.#syncedAtMs = this.#nowMs();
	}

	#fail(thrown: unknown): void {
		const cause = GpuaasError.from(thrown);
		this.#failure = new GpuaasError({
			code: 'UNAVAILABLE',
			reason: 'RECORDING_UNAVAILABLE',
			message: `the recording could not go on (${thrown instanceof GpuaasError ? cause.message : cause.reason})`,
			cause: thrown,
		});
		this.#queue = [];
		this.#queuedBytes = 0;
		this.#options.onFailure(this.#failure);
		this.#ended ??= this.#seal();
	}

	async #end(why: string, truncated: string): Promise<void> {
		const rest = this.#text.end();
		const atMs = this.#nowMs() - this.#startMs;
		if (rest !== '') this.#push({ atMs, code: 'o', text: rest });
		this.#push({ atMs, code: 'm', text: why.slice(0, 1024) });
		this.#enough();
		this.#writing ??= this.#write();
		await this.#writing;
		await this.#seal(truncated);
	}

	async #seal(truncated = ''): Promise<void> {
		await this.#options.seal({
			...this.#gaps,
			events: this.#writtenEvents,
			truncated: this.#failure?.message ?? truncated,
			outputEnd: this.#failure === undefined ? (this.#outputAt ?? null) : null,
		});
	}
}

/** Its line without its text. */
const EVENT_BYTES = 24;

/** What it takes while it waits, about. */
function bytesOf({ text }: CastEvent): number {
	return text.length + EVENT_BYTES;
}

/** Of a long text several, cut between characters, never inside a surrogate pair. */
function* linesOf({ text, ...rest }: CastEvent): Generator<string> {
	for (let from = 0; from < text.length; ) {
		let to = Math.min(text.length, from + EVENT_CHARACTERS_MAX);
		if (to < text.length && (text.charCodeAt(to - 1) & 0xfc00) === 0xd800) to -= 1;
		yield encodeCastEvent({ ...rest, text: text.slice(from, to) });
		from = to;
	}
}

function tooLarge(bytesMax: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RECORDING_UNAVAILABLE',
		message: `it has reached ${bytesMax} bytes, the most that is kept of one`,
	});
}
