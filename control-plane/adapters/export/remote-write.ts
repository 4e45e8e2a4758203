import type { Family, Position } from '../../app/telemetry/families.ts';
import type { Labels } from '../../app/telemetry/labels.ts';
import { delimited, ProtoWriter, varintBytes } from './proto-writer.ts';
import type { SampleEncoder } from './pusher.ts';
import { snappyCompress } from './snappy.ts';

/**
 * Prometheus remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec): WriteRequest{timeseries = 1 {labels = 1
 * {name = 1, value = 2}, samples = 2 {value = 1 double, timestamp = 2 int64 ms}}}, snappy block format. Labels are sorted
 * by name. A series that is gone gets the stale marker, so that graphs end where the thing did.
 *
 * Written by hand, because it is the hot path of a push: labels of a row and of a position are encoded once and merged.
 */
export const REMOTE_WRITE_HEADERS = {
	'content-type': 'application/x-protobuf',
	'content-encoding': 'snappy',
	'x-prometheus-remote-write-version': '0.1.0',
} as const;

/** A NaN of its own (prometheus/model/value): Number.NaN would be an ordinary sample. */
const STALE_NAN = Buffer.from([0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf0, 0x7f]);
const LABEL_TAG = 0x0a;
const SAMPLE_TAG = 0x12;
const SERIES_TAG = 0x0a;

interface Pair {
	readonly name: string;
	readonly bytes: Buffer;
}

const OF_POSITION = new WeakMap<Position, Map<string, readonly Pair[]>>();

export class RemoteWriteEncoder implements SampleEncoder {
	readonly #writer = new ProtoWriter();
	#series = 0;
	#rows = new Map<Labels, readonly Pair[]>();
	#target: readonly Pair[] = [];
	#atMs = 0;

	get seriesCount(): number {
		return this.#series;
	}

	begin(target: Labels, atMs: number): void {
		this.#rows = new Map();
		this.#target = pairsOf(target);
		this.#atMs = atMs;
	}

	series(family: Family, position: Position, labels: Labels, value: number | undefined, more: Labels): void {
		let row = this.#rows.get(labels);
		if (row === undefined) {
			row = merged(pairsOf(labels), this.#target);
			this.#rows.set(labels, row);
		}
		const own = merged(positionPairs(family, position), more.length === 0 ? [] : pairsOf(more));
		this.#write(merged(row, own), value);
	}

	take(): Buffer {
		this.#series = 0;
		return Buffer.from(snappyCompress(this.#writer.take()));
	}

	#write(pairs: readonly Pair[], value: number | undefined): void {
		const writer = this.#writer;
		let labelBytes = 0;
		for (const { bytes } of pairs) labelBytes += bytes.length;
		const sampleBytes = 9 + 1 + varintBytes(this.#atMs);
		writer.varint(SERIES_TAG);
		writer.varint(labelBytes + 1 + varintBytes(sampleBytes) + sampleBytes);
		for (const { bytes } of pairs) writer.raw(bytes);
		writer.varint(SAMPLE_TAG);
		writer.varint(sampleBytes);
		writer.varint(0x09);
		writer.raw(value === undefined ? STALE_NAN : double(value));
		writer.varint(0x10);
		writer.varint(this.#atMs);
		this.#series += 1;
	}
}

const DOUBLE = Buffer.alloc(8);

function double(value: number): Buffer {
	DOUBLE.writeDoubleLE(value);
	return DOUBLE;
}

function positionPairs(family: Family, position: Position): readonly Pair[] {
	let byName = OF_POSITION.get(position);
	if (byName === undefined) {
		byName = new Map();
		OF_POSITION.set(position, byName);
	}
	let pairs = byName.get(family.name);
	if (pairs === undefined) {
		pairs = pairsOf([['__name__', family.name], ...position.labels]);
		byName.set(family.name, pairs);
	}
	return pairs;
}

/** Sorted; empty values are as good as absent and not sent. */
function pairsOf(labels: Labels): readonly Pair[] {
	return labels
		.filter(([, value]) => value !== '')
		.map(([name, value]) => {
			const content = Buffer.concat([
				delimited(0x0a, Buffer.from(name, 'utf8')),
				delimited(0x12, Buffer.from(value, 'utf8')),
			]);
			return { name, bytes: delimited(LABEL_TAG, content) };
		})
		.sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** Of two sorted lists one sorted list; a name that both have is the left one's. */
function merged(left: readonly Pair[], right: readonly Pair[]): readonly Pair[] {
	if (right.length === 0) return left;
	const both: Pair[] = [];
	let from = 0;
	for (const pair of left) {
		while ((right[from]?.name ?? '￿') < pair.name) both.push(right[from++] as Pair);
		if (right[from]?.name === pair.name) from += 1;
		both.push(pair);
	}
	while (from < right.length) both.push(right[from++] as Pair);
	return both;
}
