import { describe, expect, it } from 'vitest';
import { HealthFactKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { parseFault } from './fault.ts';

const parse = (text: string) => parseFault({ name: 'fault inject' }, text);

describe('a fault', () => {
	it.each([
		['xid:79', HealthFactKind.XID, 'xid:79', 1],
		['sxid:20009', HealthFactKind.SXID, 'sxid:20009', 1],
		['gpu_lost:nvml:15', HealthFactKind.GPU_LOST, 'nvml:15', 1],
		['row_remap:pending=3', HealthFactKind.ROW_REMAP, 'pending', 3],
		['recovery_action=2', HealthFactKind.RECOVERY_ACTION, '', 2],
		['probe_hung', HealthFactKind.PROBE_HUNG, '', 1],
	])('%s is read', (text, kind, code, after) => {
		expect(parse(text)).toMatchObject({ kind, code, after });
	});

	it.each(['', 'unspecified', 'XID:79', 'xid 79', 'xid:79;reboot', 'row_remap=-1'])('%j is refused', (text) => {
		expect(() => parse(text)).toThrow(/is no KIND/);
	});
});
