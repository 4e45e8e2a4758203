import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import {
	HealthFactKind,
	HealthFactSchema,
	HealthSubjectKind,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { XidCounts } from './xid-counts.ts';

const fact = (kind: HealthFactKind, id: string, count = 1, subject: HealthSubjectKind = HealthSubjectKind.GPU) =>
	create(HealthFactSchema, { kind, subject: { kind: subject, id }, count });

test('counts XIDs by GPU with their repetitions, and nothing else', () => {
	const xids = new XidCounts();
	xids.count('n', [fact(HealthFactKind.XID, 'GPU-1'), fact(HealthFactKind.GPU_LOST, 'GPU-1')]);
	xids.count('n', [fact(HealthFactKind.XID, 'GPU-1', 4), fact(HealthFactKind.XID, 'GPU-2', 0)]);
	xids.count('n', [fact(HealthFactKind.XID, '', 1, HealthSubjectKind.NODE)]);
	expect([...xids.of('n')]).toEqual([
		['GPU-1', 5],
		['GPU-2', 1],
		['', 1],
	]);
	expect(xids.of('m').size).toBe(0);
	xids.forget('n');
	expect(xids.of('n').size).toBe(0);
});

test('an agent that makes up GPUs makes a bounded number of series', () => {
	const xids = new XidCounts();
	for (let gpu = 0; gpu < 1000; gpu += 1) xids.count('n', [fact(HealthFactKind.XID, `GPU-${gpu}`)]);
	expect(xids.of('n').size).toBeLessThan(70);
	expect([...xids.of('n').values()].reduce((sum, count) => sum + count)).toBe(1000);
});
