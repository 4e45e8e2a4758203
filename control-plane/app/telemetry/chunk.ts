import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { assert } from '../../../kit/assert.ts';
import type { Custody } from '../../store/port/nodes.ts';

/**
 * Rollups of one node over a few minutes as one small blob. Values are 32-bit floats, laid out series after series and
 * then split into byte planes: neighbouring minutes share sign, exponent and high mantissa bytes, so that deflate at
 * its fastest level finds long runs. NaN is absent. Layout before deflate, integers little-endian:
 *
 *   version u8 | minutes u8 | subjects u16 | custody u8 | simulated u8 | per subject: length u8, UTF-8, metrics u8, metric ids u8...
 *   | 4 planes of (series x 2 x minutes) bytes | CRC-32 of all before u32
 */
export interface Chunk {
	/** Start of the first minute, ms. */
	readonly fromMs: number;
	readonly minutes: number;
	readonly series: readonly SeriesKey[];
	/** Who controlled the node's software meanwhile. */
	readonly custody: Custody;
	readonly simulated: boolean;
	/** Per series: the averages of each minute, then the maxima. */
	readonly values: Float32Array;
}

export interface SeriesKey {
	/** Empty for the host, else `gpu/<uuid>` or `gpu/<uuid>/<gi>`: at most 255 bytes. */
	readonly subject: string;
	/** Number of the metric in ROLLUP_METRICS: it never changes its meaning. */
	readonly metric: number;
}

export const MINUTE_MS = 60_000;
export const CHUNK_MINUTES_MAX = 10;
const VERSION = 1;
const CUSTODIES: readonly Custody[] = ['platform', 'tenant', 'transit'];
const FIXED_BYTES = 6;
/** 64 subjects x 16 metrics x 10 minutes are 82 kB: what claims to be much more is not a chunk of ours. */
const PLAIN_BYTES_MAX = 4 * 1024 * 1024;

export function encodeChunk(chunk: Omit<Chunk, 'fromMs'>): Buffer {
	const { minutes, series, values } = chunk;
	assert(minutes >= 1 && minutes <= CHUNK_MINUTES_MAX, 'a chunk has 1 to 10 minutes');
	assert(values.length === series.length * 2 * minutes, 'a chunk has an average and a maximum a series and minute');
	const header = encodeHeader(chunk);
	const count = values.length;
	const plain = Buffer.allocUnsafe(header.length + count * 4 + 4);
	header.copy(plain);
	const bytes = new Uint8Array(values.buffer, values.byteOffset, count * 4);
	for (let plane = 0; plane < 4; plane += 1) {
		const base = header.length + plane * count;
		for (let index = 0; index < count; index += 1) plain[base + index] = bytes[index * 4 + plane] as number;
	}
	plain.writeUInt32LE(crc32(plain.subarray(0, plain.length - 4)), plain.length - 4);
	return deflateRawSync(plain, { level: 1 });
}

/** Undefined for what is not a whole and sound chunk: history has a gap then, and nobody is told a wrong value. */
export function decodeChunk(fromMs: number, blob: Uint8Array): Chunk | undefined {
	let plain: Buffer;
	try {
		plain = inflateRawSync(blob, { maxOutputLength: PLAIN_BYTES_MAX });
	} catch {
		return undefined;
	}
	if (
		plain.length < FIXED_BYTES + 4 ||
		plain.readUInt32LE(plain.length - 4) !== crc32(plain.subarray(0, plain.length - 4))
	)
		return undefined;
	const header = decodeHeader(plain);
	if (header === undefined) return undefined;
	const { minutes, series, headerBytes, custody, simulated } = header;
	const count = series.length * 2 * minutes;
	if (plain.length !== headerBytes + count * 4 + 4) return undefined;
	const values = new Float32Array(count);
	const bytes = new Uint8Array(values.buffer);
	for (let plane = 0; plane < 4; plane += 1) {
		const base = headerBytes + plane * count;
		for (let index = 0; index < count; index += 1) bytes[index * 4 + plane] = plain[base + index] as number;
	}
	return { fromMs, minutes, series, values, custody, simulated };
}

function encodeHeader({ minutes, series, custody, simulated }: Omit<Chunk, 'fromMs'>): Buffer {
	const parts: Buffer[] = [];
	let subjects = 0;
	for (let index = 0; index < series.length; ) {
		const { subject } = series[index] as SeriesKey;
		const metrics: number[] = [];
		for (; series[index]?.subject === subject; index += 1) metrics.push((series[index] as SeriesKey).metric);
		const name = Buffer.from(subject, 'utf8');
		assert(name.length <= 255 && metrics.length <= 255, 'subjects and their metrics are few and short');
		parts.push(Buffer.from([name.length]), name, Buffer.from([metrics.length, ...metrics]));
		subjects += 1;
	}
	const fixed = [VERSION, minutes, subjects & 0xff, subjects >> 8, CUSTODIES.indexOf(custody), Number(simulated)];
	return Buffer.concat([Buffer.from(fixed), ...parts]);
}

interface Header extends Pick<Chunk, 'minutes' | 'series' | 'custody' | 'simulated'> {
	readonly headerBytes: number;
}

function decodeHeader(plain: Buffer): Header | undefined {
	const minutes = plain.readUInt8(1);
	const custody = CUSTODIES[plain.readUInt8(4)];
	if (plain.readUInt8(0) !== VERSION || minutes < 1 || minutes > CHUNK_MINUTES_MAX || custody === undefined)
		return undefined;
	const series: SeriesKey[] = [];
	let at = FIXED_BYTES;
	for (let subjects = plain.readUInt16LE(2); subjects > 0; subjects -= 1) {
		const nameBytes = plain[at] ?? 0;
		const subject = plain.toString('utf8', at + 1, at + 1 + nameBytes);
		at += 1 + nameBytes;
		for (const metric of plain.subarray(at + 1, at + 1 + (plain[at] ?? 0))) series.push({ subject, metric });
		at += 1 + (plain[at] ?? 0);
	}
	return { minutes, series, headerBytes: at, custody, simulated: plain.readUInt8(5) === 1 };
}
