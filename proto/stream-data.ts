import type { DescMessage, Message } from '@bufbuild/protobuf';
import { type StreamData, StreamDataSchema } from './gen/gpuaas/terminals/v1/channel_pb.ts';

/**
 * Messages of a channel that carry a run of bytes, in their wire format without a copy of the bytes: what comes before
 * them, and the bytes as they are. The general encoder copies them for each message that they are nested in, and all the
 * memory that bulk passes through makes garbage collections.
 */
export interface Run {
	readonly head: Uint8Array;
	readonly data: Uint8Array;
}

/** Past it a number isn't exact; no stream gets there. */
const OFFSET_MAX = BigInt(Number.MAX_SAFE_INTEGER);

const { stream: STREAM, offset: OFFSET, data: DATA, end: END } = StreamDataSchema.field;

/** Whether messages of this type may hold one: in a oneof `message`, as both hops of a channel have it. */
export function hasRuns({ fields }: DescMessage): boolean {
	return fields.some((field) => field.message === StreamDataSchema && field.oneof?.localName === 'message');
}

/** Undefined for a message without one, or with more than that: the general encoder knows all of it. */
export function runOf(desc: DescMessage, message: Message): Run | undefined {
	const { case: name, value } = (message as Message & Partial<Oneof>).message ?? {};
	const field = name === undefined ? undefined : desc.field[name];
	if (field?.message !== StreamDataSchema || value === undefined) return undefined;
	const data = value as StreamData;
	if (data.data.length === 0 || data.offset > OFFSET_MAX) return undefined;
	if (hasMore(desc, message) || data.$unknown !== undefined) return undefined;
	const head = headOf(field.number, data);
	return { head, data: data.data };
}

interface Oneof {
	readonly message: { readonly case: string | undefined; readonly value?: unknown };
}

function hasMore({ fields }: DescMessage, message: Message): boolean {
	return (
		message.$unknown !== undefined ||
		fields.some(({ oneof, localName }) => oneof === undefined && Reflect.get(message, localName) !== '')
	);
}

/** Of the longest: two tags and lengths of 5 bytes each at most, a stream, an offset of 10 bytes, an end. */
const HEAD_BYTES_MAX = 48;
const VARINT = 0;
const LENGTH_DELIMITED = 2;

/**
 * Zero is not written, as proto3 says; the bytes come last, which any reader takes. By hand: a writer of the library
 * takes four buffers for it, and this is done for every message of a terminal.
 */
function headOf(number: number, { stream, offset, data, end }: StreamData): Uint8Array {
	const inner = Buffer.allocUnsafe(HEAD_BYTES_MAX);
	let at = 0;
	if (stream !== 0) at = putVarint(inner, putTag(inner, at, STREAM.number, VARINT), stream);
	if (offset !== 0n) at = putVarint(inner, putTag(inner, at, OFFSET.number, VARINT), Number(offset));
	if (end) at = putVarint(inner, putTag(inner, at, END.number, VARINT), 1);
	at = putVarint(inner, putTag(inner, at, DATA.number, LENGTH_DELIMITED), data.length);
	const head = Buffer.allocUnsafe(HEAD_BYTES_MAX);
	const innerAt = putVarint(head, putTag(head, 0, number, LENGTH_DELIMITED), at + data.length);
	inner.copy(head, innerAt, 0, at);
	return head.subarray(0, innerAt + at);
}

function putTag(bytes: Buffer, at: number, number: number, wireType: number): number {
	return putVarint(bytes, at, number * 8 + wireType);
}

/** Seven bits a byte, the lowest first; `value` is a safe integer. Where it ends. */
function putVarint(bytes: Buffer, at: number, value: number): number {
	let rest = value;
	let next = at;
	while (rest > 0x7f) {
		bytes[next] = (rest % 0x80) + 0x80;
		rest = Math.floor(rest / 0x80);
		next += 1;
	}
	bytes[next] = rest;
	return next + 1;
}
