import { beforeEach, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../kit/clock.ts';
import { silentLogger } from '../../../kit/log.ts';
import { CURRENT_SCHEMA } from '../../../proto/telemetry-schema/schemas.ts';
import type { RollupChunk, Rollups } from '../../store/port/rollups.ts';
import { RollupWriter } from './rollup-writer.ts';
import type { NodeSample } from './sample.ts';

let batches: (readonly RollupChunk[])[];
let failures: number;
let turns: number;
beforeEach(() => {
	[batches, failures, turns] = [[], 0, 0];
});

const clock: Clock = {
	...systemClock,
	defer: (callback) => {
		turns += 1;
		systemClock.defer(callback);
	},
};

const rollups: Rollups = {
	append: async (chunks) => {
		if (failures > 0) {
			failures -= 1;
			throw new Error('the disk is full');
		}
		batches.push([...chunks]);
	},
	read: async () => [],
	trim: async () => 0,
	bytes: async () => 0,
	[Symbol.asyncDispose]: async () => {},
};

/** Each of so many nodes said something once, and fell silent. */
function fill(writer: RollupWriter, nodes: number): void {
	for (let node = 0; node < nodes; node += 1) {
		const sample: NodeSample = {
			...{
				nodeId: `node-${node}`,
				schema: 2,
				custody: 'platform',
				simulated: true,
				probe: 3,
				dropped: 0,
				inventory: '',
			},
			...{ takenAtMs: 0, receivedAtMs: 60_000, heardAtMs: 0, slowHeardAtMs: 0 },
			rows: {
				host: [{ id: '', index: 0, values: new Float64Array(CURRENT_SCHEMA.host.length).fill(1) }],
				...{ gpu: [], slice: [], gpuSlow: [], nvlink: [], ibPort: [], disk: [] },
			},
		};
		writer.onSample(sample, undefined);
		writer.onSilence(sample.nodeId);
	}
}

test('a large fleet is written in batches, with other work between them', async () => {
	const writer = new RollupWriter({ clock, log: silentLogger, rollups, retentionMs: 1e9, bytesMax: 1e9 });
	fill(writer, 1200);
	await writer[Symbol.asyncDispose]();
	expect(batches.map(({ length }) => length)).toEqual([500, 500, 200]);
	expect(new Set(batches.flat().map(({ nodeId }) => nodeId)).size).toBe(1200);
	expect(turns).toBe(2);
});

test('what the disk did not take is written with the next batch, once and in order', async () => {
	const writer = new RollupWriter({ clock, log: silentLogger, rollups, retentionMs: 1e9, bytesMax: 1e9 });
	fill(writer, 600);
	failures = 1;
	await writer[Symbol.asyncDispose]();
	expect(batches).toEqual([]);
	expect(writer.unwritten('node-3')).toHaveLength(1);
	await writer[Symbol.asyncDispose]();
	expect(batches.map(({ length }) => length)).toEqual([500, 100]);
	expect(writer.dropped).toBe(0);
});
