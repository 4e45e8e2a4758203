import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { HealthGlanceSchema, HealthState } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { ProbeState } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { NodeGlanceSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { rowsOf, sortRows, type TopRow } from './rows.ts';
import { renderTop, type TopScreen } from './screen.ts';

function node(index: number, more: object = {}) {
	return create(NodeGlanceSchema, {
		nodeId: `id-${index}`,
		name: `gpu-${index}`,
		ageSeconds: 3,
		probe: ProbeState.RUNNING,
		gpus: [0, 1].map((gpu) => ({
			uuid: `GPU-${index}-${gpu}`,
			index: gpu,
			model: 'NVIDIA H100 80GB HBM3',
			utilisation: ((index * 7 + gpu) % 10) / 10,
			memoryUsedBytes: 4e10,
			memoryBytes: 8.5e10,
			powerWatts: 431.5 + index,
			powerLimitWatts: 700,
			temperatureCelsius: 50 + gpu,
			smClockHertz: 1.41e9,
		})),
		...more,
	});
}

const screen = (more: Partial<TopScreen> = {}): TopScreen => ({
	...{ columns: 80, rows: 24, view: 'gpus', sort: 'utilisation', isReversed: false, offset: 0, title: 'gpuaas top' },
	...{ trouble: '', isColoured: false, ...more },
});
const names = (rows: readonly TopRow[]) => rows.map((row) => `${row.node}/${row.gpu}`);

describe('the screen', () => {
	const rows = rowsOf(
		Array.from({ length: 40 }, (_, index) => node(index)),
		'gpus',
	);

	test.each([
		[80, 24],
		[200, 60],
		[40, 10],
	])('of %i x %i is filled exactly, whatever is on it', (columns, height) => {
		const wild = [...rows, ...rowsOf([node(99, { name: 'evil\u001b[31m\nname'.repeat(20) })], 'gpus')];
		const lines = renderTop(wild, screen({ columns, rows: height, offset: 60, trouble: 'x'.repeat(500) }));
		expect(lines).toHaveLength(height);
		for (const line of lines) expect([...line]).toHaveLength(columns);
		expect(lines.join('')).not.toContain('\u001b');
	});

	test('shows the essentials at 80 columns and more where there is room', () => {
		const narrow = renderTop(rows, screen()).join('\n');
		for (const head of ['NODE', 'GPU', 'UTIL▼', 'MEM', 'POWER', 'TEMP', 'NOTE']) expect(narrow).toContain(head);
		expect(narrow).not.toContain('MODEL');
		const wide = renderTop(rows, screen({ columns: 200, rows: 60 })).join('\n');
		for (const head of ['MODEL', 'CLOCK', 'LIMIT', 'H100 80GB HBM3', '1.41 GHz', '█']) expect(wide).toContain(head);
		expect(renderTop([], screen()).at(-1)).toContain('nothing to show');
	});

	test('says the verdict of each GPU, an injected one as such, however narrow', () => {
		const health = (state: HealthState, simulated = false) => create(HealthGlanceSchema, { state, simulated });
		const gpu = (state: HealthState, healthSimulated = false) => [{ uuid: 'a', health: state, healthSimulated }];
		const judged = [
			node(1, { gpus: gpu(HealthState.UNHEALTHY, true) }),
			node(2, { gpus: gpu(HealthState.DEGRADED), health: health(HealthState.DEGRADED) }),
			node(3, { gpus: gpu(HealthState.HEALTHY), health: health(HealthState.UNHEALTHY) }),
			node(4, { gpus: [], health: health(HealthState.UNKNOWN) }),
		];
		const rows = sortRows(rowsOf(judged, 'gpus'), 'name', false);
		expect(rows.map(({ note, isBad }) => `${note} ${isBad}`)).toEqual([
			'sim UNHEALTHY true',
			'DEGRADED false',
			' false',
			'UNKNOWN true',
		]);
		expect(renderTop(rows, screen({ columns: 80 })).join('\n')).toContain('sim UNHEALTHY');
	});

	test('says it when GPUs are simulated, and what is wrong with which', () => {
		const sick = [
			node(1, { simulated: true }),
			node(2, { gpus: [{ uuid: 'a', nvmlStatus: 15 }] }),
			node(3, { gpus: [{ uuid: 'b', lastXid: 79 }] }),
			node(4, { stale: true, ageSeconds: 61.2, gpus: [] }),
			node(5, { probe: ProbeState.HUNG, gpus: [] }),
			create(NodeGlanceSchema, { name: 'gpu-6', stale: true }),
		];
		const lines = renderTop(rowsOf(sick, 'gpus'), screen({ sort: 'name' }));
		const text = lines.join('\n');
		for (const note of [
			'SIMULATED',
			'simulated',
			'GPU LOST',
			'XID 79',
			'stale 61 s',
			'driver hung',
			'silent',
			'5 with a note',
		])
			expect(text, note).toContain(note);
	});
});

describe('rows', () => {
	const three = [
		node(10, { gpus: [{ uuid: 'a', utilisation: 0.2, temperatureCelsius: 70 }] }),
		node(9, { gpus: [{ uuid: 'b', utilisation: 0.9 }] }),
		node(2, { gpus: [{ uuid: 'c', temperatureCelsius: 80 }] }),
	];

	test('are sorted by any column, both ways; what is not measured stays last', () => {
		const rows = rowsOf(three, 'gpus');
		expect(names(sortRows(rows, 'utilisation', false))).toEqual(['gpu-9/0', 'gpu-10/0', 'gpu-2/0']);
		expect(names(sortRows(rows, 'utilisation', true))).toEqual(['gpu-10/0', 'gpu-9/0', 'gpu-2/0']);
		expect(names(sortRows(rows, 'temperature', false))).toEqual(['gpu-2/0', 'gpu-10/0', 'gpu-9/0']);
		expect(names(sortRows(rows, 'name', false))).toEqual(['gpu-2/0', 'gpu-9/0', 'gpu-10/0']);
		expect(names(sortRows(rows, 'name', true))).toEqual(['gpu-10/0', 'gpu-9/0', 'gpu-2/0']);
	});

	test('of nodes sum their GPUs and count no MIG device twice', () => {
		const [row] = rowsOf(
			[
				node(1, {
					gpus: [
						{ uuid: 'a', index: 0, powerWatts: 100, memoryUsedBytes: 10, utilisation: 0.5, temperatureCelsius: 40 },
						{ uuid: 'b', index: 1, powerWatts: 200, memoryUsedBytes: 20, active: 0.7, temperatureCelsius: 60 },
						{ uuid: 'm', index: 1, profile: '3g.40gb', memoryUsedBytes: 15, active: 0.9 },
					],
				}),
			],
			'nodes',
		);
		expect(row).toMatchObject({ gpu: '2x', power: 300, memoryUsed: 30, utilisation: 0.6, temperature: 60 });
	});

	test('of nodes take the mean of the GPUs that say how busy they are', () => {
		const busy = [0, 1, 2, 3].map((index) => ({ uuid: `busy-${index}`, index, utilisation: 1 }));
		const mute = [4, 5, 6, 7].map((index) => ({ uuid: `mute-${index}`, index }));
		const rows = rowsOf([node(1, { gpus: [...busy, ...mute] }), node(2, { gpus: mute })], 'nodes');
		expect(rows.map(({ gpu, utilisation }) => [gpu, utilisation])).toEqual([
			['8x', 1],
			['4x', undefined],
		]);
	});

	test('of a node without a GPU say so, which is nothing bad', () => {
		const [row] = rowsOf([node(1, { probe: ProbeState.NO_HARDWARE, gpus: [] })], 'gpus');
		expect(row).toMatchObject({ gpu: '-', note: 'no GPU', isBad: false });
		const [gone] = rowsOf([node(1, { probe: ProbeState.UNAVAILABLE, gpus: [] })], 'gpus');
		expect(gone).toMatchObject({ note: 'no driver', isBad: true });
	});

	test('of a MIG device show how active it is', () => {
		const [row] = rowsOf([node(1, { gpus: [{ uuid: 'm', index: 3, profile: '1g.10gb', active: 0.4 }] })], 'gpus');
		expect(row).toMatchObject({ gpu: '3 1g.10gb', utilisation: 0.4 });
	});
});
