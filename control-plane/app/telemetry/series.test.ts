import { expect, test } from 'vitest';
import { CURRENT_SCHEMA, SCHEMA_NUMBER } from '../../../proto/telemetry-schema/schemas.ts';
import type { NodeSample } from './sample.ts';
import { walkSeries } from './series.ts';

test('what is absent has no series, and its family no header; 0 is a value', () => {
	const values = new Float64Array(CURRENT_SCHEMA.gpu.length).fill(Number.NaN);
	const known = { 'temperature.gpu': 51, 'utilisation.gpu': 0 };
	for (const [key, value] of Object.entries(known))
		values[CURRENT_SCHEMA.gpu.findIndex((one) => one.key === key)] = value;
	const rows = {
		host: [],
		slice: [],
		gpuSlow: [],
		nvlink: [],
		ibPort: [],
		disk: [],
		gpu: [{ id: 'g', index: 0, values }],
	};
	const sample = { nodeId: 'n', schema: SCHEMA_NUMBER, simulated: false, rows } as unknown as NodeSample;
	const seen: [string, number][] = [];
	const headers: string[] = [];
	walkSeries(
		undefined,
		sample,
		{ names: new Set(['gpuaas']), hostnameLabel: 'Hostname' },
		{
			labels: (labels) => labels,
			family: ({ name }) => void headers.push(name),
			series: (_family, { metric }, _labels, value) => void seen.push([metric.key, value]),
		},
	);
	expect(Object.fromEntries(seen)).toEqual(known);
	expect(headers).toHaveLength(2);
});
