import { expect, test } from 'vitest';
import { CURRENT_SCHEMA, SCHEMA_NUMBER } from '../../../proto/telemetry-schema/schemas.ts';
import type { Chunk } from './chunk.ts';
import { NodeRoll } from './node-roll.ts';
import type { NodeSample } from './sample.ts';

const MINUTE = 60_000;
const position = (key: string) => CURRENT_SCHEMA.gpu.findIndex((metric) => metric.key === key);

function sample(atMs: number, values: Readonly<Record<string, number>>, more: Partial<NodeSample> = {}): NodeSample {
	const row = new Float64Array(CURRENT_SCHEMA.gpu.length).fill(Number.NaN);
	for (const [key, value] of Object.entries(values)) row[position(key)] = value;
	return {
		...{
			nodeId: 'n',
			schema: SCHEMA_NUMBER,
			custody: 'platform',
			simulated: false,
			probe: 3,
			dropped: 0,
			inventory: '',
		},
		...{ takenAtMs: atMs, receivedAtMs: atMs, heardAtMs: atMs, slowHeardAtMs: 0 },
		rows: {
			host: [],
			slice: [],
			gpuSlow: [],
			nvlink: [],
			ibPort: [],
			disk: [],
			gpu: [{ id: 'g', index: 0, values: row }],
		},
		...more,
	};
}

/** Average and maximum of each minute of one metric. */
function minutesOf(chunk: Chunk | undefined, metric: number): (readonly [number, number])[] {
	const { series = [], values, minutes = 0 } = chunk ?? {};
	const number = series.findIndex((key) => key.metric === metric);
	return Array.from({ length: minutes }, (_, minute) => {
		const at = number * 2 * minutes + minute;
		return [values?.[at] ?? Number.NaN, values?.[at + minutes] ?? Number.NaN] as const;
	});
}

const TEMPERATURE = 4;
const CORRECTED = 10;

test('a minute is the average and the maximum of its samples; a chunk has ten', () => {
	const roll = new NodeRoll(10);
	const chunks: Chunk[] = [];
	for (let at = 0; at < 11 * MINUTE; at += 15_000) {
		const ended = roll.observe(sample(MINUTE + at, { 'temperature.gpu': 53 - ((at / 15_000) % 4) }), undefined);
		if (ended !== undefined) chunks.push(ended);
	}
	expect(chunks).toMatchObject([{ fromMs: MINUTE, minutes: 10, custody: 'platform', simulated: false }]);
	expect(minutesOf(chunks[0], TEMPERATURE)).toEqual(Array.from({ length: 10 }, () => [51.5, 53]));
	expect(minutesOf(roll.end(), TEMPERATURE)).toEqual([[51.5, 53]]);
	expect(roll.end()).toBeUndefined();
});

test('counters are kept as their rate, absent over a reset and a gap', () => {
	const roll = new NodeRoll(10);
	const key = 'ecc.volatile.corrected';
	const said = [
		[0, 100],
		[15, 400],
		[60, 1300],
		[120, 5],
		[300, 1e6],
	].map(([seconds = 0, count = 0]) => sample(MINUTE + seconds * 1000, { [key]: count }));
	const chunks = said.map((one, index) => roll.observe(one, said[index - 1]));
	const all = [...chunks, roll.end()].filter((chunk) => chunk !== undefined);
	expect(all.flatMap((chunk) => minutesOf(chunk, CORRECTED))).toEqual([
		[20, 20],
		[20, 20],
		[Number.NaN, Number.NaN],
		[Number.NaN, Number.NaN],
	]);
});

test('a chunk ends where minutes are missing, and where custody or simulation changes', () => {
	const roll = new NodeRoll(10);
	const at = (minute: number, more: Partial<NodeSample> = {}) =>
		roll.observe(sample(minute * MINUTE, { 'temperature.gpu': minute }, more), undefined);
	expect(at(1)).toBeUndefined();
	expect(at(2)).toBeUndefined();
	expect(at(5)).toMatchObject({ fromMs: MINUTE, minutes: 2 });
	expect(at(6, { custody: 'tenant' })).toMatchObject({ fromMs: 5 * MINUTE, minutes: 1, custody: 'platform' });
	expect(at(7, { custody: 'tenant', simulated: true })).toMatchObject({
		minutes: 1,
		custody: 'tenant',
		simulated: false,
	});
	expect(roll.end()).toMatchObject({ fromMs: 7 * MINUTE, custody: 'tenant', simulated: true });
});

test('a GPU that comes later is absent before', () => {
	const roll = new NodeRoll(10);
	roll.observe(sample(MINUTE, {}, { rows: { ...sample(0, {}).rows, gpu: [] } }), undefined);
	roll.observe(sample(2 * MINUTE, { 'temperature.gpu': 40 }), undefined);
	expect(minutesOf(roll.end(), TEMPERATURE)).toEqual([[40, 40]]);
});
