import addon from '@xterm/addon-serialize';
import headless from '@xterm/headless';
import { charsetSequence, learnCharsets } from './charsets.ts';
import { boundCombining } from './combining.ts';
import { screenBacklogBytes, screenBytesMax, scrollbackLines } from './limits.ts';
import type { ChannelSize } from './pty-host.ts';
import { boundSequences, pieceBytesMax, scrollsWithText, writeSync } from './sequences.ts';
import { Title } from './title.ts';
import { type Reader, type Turns, turnMs } from './turns.ts';
import { unserialized } from './unserialized.ts';

/**
 * What a person would see: a terminal without a display, for whoever attaches later. It reads its program's output
 * lazily, when enough has come or somebody asks, because reading costs 30 ns a byte. Plain text that has scrolled out by
 * then is passed over, and of a flood of lines the end waits to be passed over too: it is read once the flood is over, or
 * when somebody asks.
 */
const ESC = 0x1b;
/** Shift out, shift in: they change how plain bytes look. Then the lead byte of C1 controls in UTF-8. */
const NOT_PLAIN = [ESC, 0x0e, 0x0f, 0x9b, 0xc2];
const LF = 0x0a;
const CR = 0x0d;
/** Of the end of a flood: looking at it again for less than a quarter of it that is new costs more than to read it. */
const KEPT_BYTES_MAX = (screenBacklogBytes / 4) * 3;
/** Read at once of what turned out to be costly, and how much more with each piece that did not. */
const PIECE_BYTES_MIN = 16;
const PIECE_STEP_BYTES = 32;
/** Plain text takes a hundredth of it, on a screen of any size. */
const SLOW_MS_PER_BYTE = turnMs / 2 / 128;
/** How much of what was measured before still counts after another piece: a pause of the machine tells of no output. */
const KEPT_SHARE = 3 / 4;
const UNREADABLE =
	'[The screen of this terminal could not be read. Its program runs on: have it redraw, e.g. with Ctrl-L.]\r\n';

type Item = Buffer | ChannelSize | (() => void);

function isSize(item: Item | undefined): item is ChannelSize {
	return typeof item === 'object' && !Buffer.isBuffer(item);
}

export class Screen implements Reader {
	readonly #terminal: InstanceType<typeof headless.Terminal>;
	readonly #serializer = new addon.SerializeAddon();
	readonly #title: Title;
	#backlog: Buffer[] = [];
	#backlogBytes = 0;
	/** What is to be read, in order: output, the terminal's next size, who waits for the screen as it is then. */
	#queue: Item[] = [];
	#queuedBytes = 0;
	#pieceBytes = PIECE_STEP_BYTES;
	/** What the last pieces took: costly, until something was read. */
	#recent = { ms: turnMs, bytes: 0 };
	readonly #turns: Turns;
	readonly #onCaughtUp: () => void;

	/** `onCaughtUp` comes whenever nothing is left to read. */
	constructor({ columns, rows }: ChannelSize, turns: Turns, onCaughtUp: () => void) {
		this.#turns = turns;
		this.#onCaughtUp = onCaughtUp;
		this.#terminal = new headless.Terminal({
			cols: columns,
			rows,
			scrollback: scrollbackLines,
			allowProposedApi: true,
			logLevel: 'off',
		});
		boundCombining(this.#terminal);
		boundSequences(this.#terminal);
		this.#title = new Title(this.#terminal);
		learnCharsets(this.#terminal);
		this.#terminal.loadAddon(this.#serializer);
	}

	/** Output that was not read yet. */
	get behindBytes(): number {
		return this.#backlogBytes + this.#queuedBytes;
	}

	/** Whether its output is costly: then little of it is taken ahead. */
	get isSlow(): boolean {
		return this.#recent.ms > SLOW_MS_PER_BYTE * this.#recent.bytes;
	}

	feed(bytes: Buffer): void {
		this.#backlog.push(bytes);
		this.#backlogBytes += bytes.length;
		if (this.#queue.length === 0) this.#look();
	}

	/** After what was fed so far. */
	resize(size: ChannelSize): void {
		this.#take();
		// Only the last of several in a row is seen.
		if (isSize(this.#queue.at(-1))) this.#queue.pop();
		this.#queue.push(size);
	}

	/** The screen after all that was fed so far. */
	snapshot(): Promise<{ readonly size: ChannelSize; readonly bytes: Buffer }> {
		return new Promise((resolve) => {
			this.#take();
			this.#queue.push(() => {
				const size = { columns: this.#terminal.cols, rows: this.#terminal.rows };
				resolve({ size, bytes: this.#told() });
			});
		});
	}

	/** When it is its turn (turns.ts). */
	read(untilMs: number): boolean {
		for (;;) {
			const [item] = this.#queue;
			if (item === undefined) break;
			if (Buffer.isBuffer(item)) this.#readPiece(item);
			else {
				this.#queue.shift();
				if (isSize(item)) this.#terminal.resize(item.columns, item.rows);
				else item();
			}
			if (this.#turns.nowMs() >= untilMs) break;
		}
		if (this.#queue.length > 0) return true;
		this.#look();
		if (this.#queue.length === 0) this.#onCaughtUp();
		return this.#queue.length > 0;
	}

	/** Whatever a program did to its screen, it is told by the terminal in a timer of its own, where nobody would catch. */
	#told(): Buffer {
		try {
			return this.#serialized();
		} catch {
			return Buffer.from(UNREADABLE, 'utf8');
		}
	}

	/** With as much scrollback as there is room for; at last the text alone. */
	#serialized(): Buffer {
		// The charsets come last: all before them is written in characters of their own.
		const rest = this.#title.sequence + unserialized(this.#terminal) + charsetSequence(this.#terminal);
		for (let scrollback = scrollbackLines; ; scrollback >>= 1) {
			const bytes = Buffer.from(this.#serializer.serialize({ scrollback }) + rest, 'utf8');
			if (bytes.length <= screenBytesMax) return bytes;
			if (scrollback === 0) break;
		}
		const { active } = this.#terminal.buffer;
		const lines = Array.from(
			{ length: this.#terminal.rows },
			(_, row) => active.getLine(active.baseY + row)?.translateToString(true) ?? '',
		);
		const start = active.type === 'alternate' ? '\u001b[?1049h\u001b[H' : '';
		const end = Buffer.from(rest, 'utf8');
		const text = Buffer.from(start + lines.join('\r\n'), 'utf8').subarray(0, screenBytesMax - end.length);
		return Buffer.concat([text, end]);
	}

	dispose(): void {
		this.#turns.forget(this);
		this.#backlog = [];
		this.#backlogBytes = 0;
		this.#queue = [];
		this.#queuedBytes = 0;
		this.#terminal.dispose();
	}

	/** Once enough has come it is to be read; but of a flood of lines the end is kept, since more of it passes that over too. */
	#look(): void {
		if (this.#backlogBytes < screenBacklogBytes) return;
		const bytes = this.#visible(Buffer.concat(this.#backlog));
		if (bytes.length > KEPT_BYTES_MAX) {
			this.#want(bytes);
			return;
		}
		this.#backlog = [bytes];
		this.#backlogBytes = bytes.length;
	}

	/** What was fed is to be read. */
	#take(): void {
		this.#want(this.#visible(Buffer.concat(this.#backlog)));
	}

	#want(bytes: Buffer): void {
		this.#backlog = [];
		this.#backlogBytes = 0;
		if (bytes.length > 0) this.#queue.push(bytes);
		this.#queuedBytes += bytes.length;
		this.#turns.want(this);
	}

	#readPiece(bytes: Buffer): void {
		const most = pieceBytesMax(this.#terminal);
		const piece = bytes.subarray(0, Math.min(this.#pieceBytes, most));
		if (piece.length === bytes.length) this.#queue.shift();
		else this.#queue[0] = bytes.subarray(piece.length);
		this.#queuedBytes -= piece.length;
		const beganMs = this.#turns.nowMs();
		writeSync(this.#terminal, piece);
		const tookMs = this.#turns.nowMs() - beganMs;
		this.#recent = {
			ms: this.#recent.ms * KEPT_SHARE + tookMs,
			bytes: this.#recent.bytes * KEPT_SHARE + piece.length,
		};
		const isCostly = tookMs > turnMs / 2;
		// Down at once, up by and by: whoever alternates gains nothing.
		this.#pieceBytes = isCostly
			? Math.max(PIECE_BYTES_MIN, piece.length >> 1)
			: Math.min(most, this.#pieceBytes + PIECE_STEP_BYTES);
	}

	/** The end of `bytes` that decides what is on the screen and in the scrollback: all of it, unless all is plain text. */
	#visible(bytes: Buffer): Buffer {
		const lines = scrollbackLines + 2 * this.#terminal.rows;
		if (bytes.length < lines || this.#queue.length > 0) return bytes;
		if (!scrollsWithText(this.#terminal)) return bytes;
		let from = bytes.length;
		for (let left = lines + 1; left > 0; ) {
			from -= 1;
			if (from < 0) return bytes;
			if (bytes[from] === LF) left -= 1;
		}
		// Else its column depends on all that came before.
		from -= 1;
		if (bytes[from] !== CR) return bytes;
		const head = bytes.subarray(0, from);
		return NOT_PLAIN.some((byte) => head.includes(byte)) ? bytes : bytes.subarray(from);
	}
}
