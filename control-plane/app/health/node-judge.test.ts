import { describe, expect, test } from 'vitest';
import { DEFAULT_POLICY } from '../../../health/default-policy.ts';
import { parsePolicy } from '../../../health/parse-policy.ts';
import { ProbeState } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { IB_PORT_VALUES } from '../../../proto/telemetry-schema/links.ts';
import type { Custody } from '../../store/port/nodes.ts';
import type { NodeSample } from '../telemetry/sample.ts';
import { NodeJudge } from './node-judge.ts';

const POLICY = parsePolicy(DEFAULT_POLICY);
const SYMBOL_ERRORS = IB_PORT_VALUES.findIndex(({ key }) => key === 'errors.symbol_error');
const NONE = {
	observations: [],
	factId: '',
	evidenceId: '',
	isCut: false,
	node: { bootId: '', custody: 'platform' },
} as const;

/** Of one InfiniBand port, measured with this frame. */
function portSample(symbolErrors: number, heardAtMs: number, custody: Custody): NodeSample {
	const values = new Float64Array(IB_PORT_VALUES.length).fill(Number.NaN);
	values[SYMBOL_ERRORS] = symbolErrors;
	return {
		...{ nodeId: 'node', schema: 2, custody, simulated: false, probe: ProbeState.RUNNING, dropped: 0, inventory: '' },
		...{ takenAtMs: heardAtMs, receivedAtMs: heardAtMs, heardAtMs, slowHeardAtMs: heardAtMs },
		rows: {
			...{ host: [], gpu: [], slice: [], gpuSlow: [], nvlink: [], disk: [] },
			ibPort: [{ id: 'mlx5_0', index: 1, values }],
		},
	};
}

/** What the platform makes of a port that said this. */
function judged(...said: readonly (readonly [symbolErrors: number, atMs: number, custody: Custody])[]) {
	const judge = new NodeJudge('node', POLICY, undefined, NONE, 0);
	let before: NodeSample | undefined;
	for (const [symbolErrors, atMs, custody] of said) {
		const sample = portSample(symbolErrors, atMs, custody);
		judge.hearSample(sample, before, { identities: undefined, bootId: '' }, atMs);
		judge.judge(atMs);
		before = sample;
	}
	return judge.verdicts
		.filter(({ custody }) => custody === 'platform')
		.map(({ subject, state, schedulable }) => [subject.kind, state, schedulable]);
}

const HOUR_MS = 3_600_000;
const WELL = [
	['node', 'HEALTHY', true],
	['nic', 'HEALTHY', true],
];

describe('a counter of a port that nobody had looked at', () => {
	test('that rises too much from one sample to the next is UNHEALTHY', () => {
		expect(judged([0, 0, 'platform'], [180, 60_000, 'platform'])).toEqual([
			['node', 'UNHEALTHY', false],
			['nic', 'UNHEALTHY', false],
		]);
	});

	test('that rose over an outage says nothing of how fast', () => {
		expect(judged([0, 0, 'platform'], [180, 12 * HOUR_MS, 'platform'])).toEqual(WELL);
	});

	test('is not counted on from what a tenant’s agent said of it', () => {
		expect(judged([0, 0, 'tenant'], [5000, 60_000, 'platform'])).toEqual(WELL);
	});
});
