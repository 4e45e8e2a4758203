import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import {
	HealthFactKind,
	HealthFactSchema,
	HealthSubjectKind,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { NodeSample } from './sample.ts';
import { XidCounts } from './xid-counts.ts';
import { xidSeries } from './xid-series.ts';

const fact = (kind: HealthFactKind, id: string, count = 1, subject: HealthSubjectKind = HealthSubjectKind.GPU) =>
	create(HealthFactSchema, { kind, subject: { kind: subject, id }, count });

test('counts XIDs by GPU with their repetitions, and nothing else', () => {
	const xids = new XidCounts();
	xids.count('n', [fact(HealthFactKind.XID, 'GPU-1'), fact(HealthFactKind.GPU_LOST, 'GPU-1')]);
	xids.count('n', [fact(HealthFactKind.XID, 'GPU-1', 4), fact(HealthFactKind.XID, 'GPU-2', 0)]);
	xids.count('n', [fact(HealthFactKind.XID, '', 1, HealthSubjectKind.NODE)]);
	const real = (count: number) => ({ real: count, simulated: 0 });
	expect([...xids.of('n')]).toEqual([
		['GPU-1', real(5)],
		['GPU-2', real(1)],
		['', real(1)],
	]);
	expect(xids.of('m').size).toBe(0);
	xids.forget('n');
	expect(xids.of('n').size).toBe(0);
});

test('an agent that makes up GPUs makes a bounded number of series', () => {
	const xids = new XidCounts();
	for (let gpu = 0; gpu < 1000; gpu += 1) xids.count('n', [fact(HealthFactKind.XID, `GPU-${gpu}`)]);
	expect(xids.of('n').size).toBeLessThan(70);
	expect([...xids.of('n').values()].reduce((sum, { real }) => sum + real, 0)).toBe(1000);
});

test('those of a drill are a series of their own, marked, and move none that is real', () => {
	const xids = new XidCounts();
	const subject = { kind: HealthSubjectKind.GPU, id: 'GPU-1' };
	xids.count('n', [fact(HealthFactKind.XID, 'GPU-1', 2)]);
	xids.count('n', [create(HealthFactSchema, { kind: HealthFactKind.XID, subject, count: 3, simulated: true })]);
	const series = (simulated: boolean) =>
		xidSeries(undefined, { nodeId: 'n', simulated } as NodeSample, xids.of('n')).map(({ labels, value }) => [
			labels.find(([name]) => name === 'simulated')?.[1],
			value,
		]);
	expect(series(false)).toEqual([
		[undefined, 2],
		['true', 3],
	]);
	// All that a test double of the driver says is.
	expect(series(true)).toEqual([['true', 5]]);
});
