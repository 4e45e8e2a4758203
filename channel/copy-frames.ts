import { BoundedQueue } from '../kit/queue.ts';
import { encodeFrame, type Frame, FrameDecoder, protocolError } from './frame.ts';
import type { BytePipe } from './pipe.ts';
import { decodeRefusal, encodeRefusal, refusalError, refusalOf } from './refusal.ts';

/**
 * The conversation of a copy. The sender names one entry after another; the receiver says what it has of each; the
 * sender sends the rest and the digest of the whole; the receiver keeps it only when digest and size fit.
 *
 *   entry -> want | have         have -> same | differs
 *   want  -> start, data..., end -> done
 *   finish -> finished           refused ends everything, from either side
 */
export const COPY_FRAME = Object.freeze({
	entry: 1,
	want: 2,
	have: 3,
	start: 4,
	data: 5,
	end: 6,
	done: 7,
	same: 8,
	differs: 9,
	refused: 10,
	finish: 11,
	finished: 12,
	/** Something was left out, and why; the copy goes on. */
	warning: 13,
});

const NAMES = new Map<number, string>(Object.entries(COPY_FRAME).map(([name, type]) => [type, name]));
/** Frames other than data are small: an entry has a path and a link's target. */
const DOCUMENT_BYTES_MAX = 32 * 1024;
/** Frames read ahead: the receiver's answers to a sender that is busy. */
const QUEUE_FRAMES = 8;

/** One end's frames: sends, and gives what the other side sent one after another. */
export class CopyLink {
	readonly #pipe: BytePipe;
	readonly #frames = new BoundedQueue<Frame>(QUEUE_FRAMES);
	readonly #iterator: AsyncIterator<Frame>;
	#refused: unknown;
	/** The other side says nothing more. */
	#isOver = false;
	readonly #pumped: Promise<void>;

	constructor(pipe: BytePipe) {
		this.#pipe = pipe;
		this.#iterator = this.#frames[Symbol.asyncIterator]();
		this.#pumped = this.#pump();
	}

	send(type: number, document?: object): Promise<void> {
		const payload = document === undefined ? new Uint8Array() : Buffer.from(JSON.stringify(document), 'utf8');
		return this.#write(encodeFrame(type, 0, payload));
	}

	/** Throws also where nobody is left who could say that they have it. */
	async sendData(bytes: Uint8Array): Promise<void> {
		if (this.#isOver) throw this.#refused ?? cut();
		await this.#write(encodeFrame(COPY_FRAME.data, 0, bytes));
	}

	/** The other side's next frame. Throws its refusal, or UNREACHABLE when it ended too early. */
	async next(): Promise<Frame> {
		const { done, value } = await this.#iterator.next();
		if (done === true) throw this.#refused ?? cut();
		return value;
	}

	/** The next frame, which must be one of these. */
	async expect(...types: readonly number[]): Promise<Frame> {
		const frame = await this.next();
		if (!types.includes(frame.type))
			throw protocolError(`${NAMES.get(frame.type) ?? frame.type} came at the wrong time`);
		return frame;
	}

	/** Tells the other side why this one gives up; never throws. */
	async refuse(thrown: unknown): Promise<void> {
		await this.#pipe.write(encodeFrame(COPY_FRAME.refused, 0, encodeRefusal(refusalOf(thrown)))).catch(() => {});
	}

	async #write(bytes: Uint8Array): Promise<void> {
		if (this.#refused !== undefined) throw this.#refused;
		try {
			await this.#pipe.write(bytes);
		} catch {
			// The other side may have said why before it left: that is read to its end, the rest is nobody's.
			this.#frames.close();
			await this.#pumped;
			throw this.#refused ?? cut();
		}
	}

	/** Reads also while this side writes, so that a refusal is heard in the middle of a file, and that nobody is there. */
	async #pump(): Promise<void> {
		const decoder = new FrameDecoder();
		try {
			for await (const chunk of this.#pipe.incoming) {
				for (const frame of decoder.push(chunk)) {
					if (frame.type === COPY_FRAME.refused) throw refusalError(decodeRefusal(frame.payload));
					await this.#frames.put(frame);
				}
			}
		} catch (error) {
			this.#refused = error;
		}
		this.#isOver = true;
		this.#frames.close();
	}
}

function cut(): Error {
	return refusalError(
		{
			reason: 'COPY_INTERRUPTED',
			message:
				'the connection to the node ended in the middle; run the same command again, it goes on where it stopped',
		},
		'UNAVAILABLE',
	);
}

/** The document of a frame. Throws CHANNEL_PROTOCOL for what is none. */
export function documentOf({ payload }: Frame): Readonly<Record<string, unknown>> {
	if (payload.length > DOCUMENT_BYTES_MAX) throw protocolError('a document is too large');
	try {
		const parsed: unknown = JSON.parse(Buffer.from(payload).toString('utf8'));
		if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed))
			return parsed as Record<string, unknown>;
	} catch {
		// One message for both.
	}
	throw protocolError('a document can not be read');
}

const SHA256 = /^[0-9a-f]{64}$/;

/** An offset or size, with the digest of so many bytes. */
export function positionOf(frame: Frame): { readonly bytes: number; readonly sha256: string } {
	const { bytes, sha256 } = documentOf(frame);
	if (!Number.isSafeInteger(bytes) || Number(bytes) < 0) throw protocolError('a position is not a number of bytes');
	if (typeof sha256 !== 'string' || !SHA256.test(sha256)) throw protocolError('a digest is not SHA-256');
	return { bytes: Number(bytes), sha256 };
}
