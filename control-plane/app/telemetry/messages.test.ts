import { create, toBinary } from '@bufbuild/protobuf';
import { beforeEach, expect, it } from 'vitest';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { GpuProcessSchema, InventorySchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type CallerView, SEES_ALL } from './caller-view.ts';
import type { NodeEntry } from './directory.ts';
import { fixtureFrame, fixtureInventory } from './frames-fixture.ts';
import { identitiesOf } from './identities.ts';
import { TelemetryIngest } from './ingest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from './limits.ts';
import { nodeTelemetryMessage } from './messages.ts';
import type { Telemetry } from './telemetry.ts';

const NODE = '01930000-0000-7000-8000-000000000001';

let clock: VirtualClock;
let ingest: TelemetryIngest;
let telemetry: Telemetry;
beforeEach(() => {
	clock = new VirtualClock();
	const node = { id: NODE, name: 'gpu-1', hostname: 'gpu-1', custody: 'platform', generation: 1, labels: {} } as const;
	const entry: NodeEntry = {
		node: { ...node, bootId: '' },
		assignments: [],
		identities: identitiesOf(toBinary(InventorySchema, fixtureInventory())),
	};
	const directory = { get: () => entry, onChange: () => () => {} };
	ingest = new TelemetryIngest({ clock, log: silentLogger, directory, limits: TELEMETRY_LIMITS_DEFAULT });
	telemetry = { latest: ingest.latest, directory, ingest } as unknown as Telemetry;
});

it('shows no process of the tenant before, which a fast frame after the hand-over still carries', () => {
	const gpu = fixtureInventory().gpus[0]?.uuid ?? '';
	const withProcess = (pid: number) => {
		const frame = fixtureFrame({ atMs: clock.now() });
		frame.gpuProcesses = [create(GpuProcessSchema, { gpu, pid })];
		frame.gpuProcessesLeftOut = 1;
		return frame;
	};
	const shown = (view: CallerView) => {
		const { processes, processesLeftOut } = nodeTelemetryMessage(telemetry, { id: NODE, name: 'gpu-1' }, view);
		return [processes.map(({ pid }) => pid), processesLeftOut];
	};
	ingest.ingest(NODE, withProcess(4711));
	clock.advance(15_000);
	const fromMs = clock.now();
	const next: CallerView = { sees: (_part, _id, atMs) => atMs >= fromMs };
	clock.advance(5000);
	ingest.ingest(NODE, fixtureFrame({ atMs: clock.now(), hasSlow: false }));
	expect(shown(SEES_ALL)).toEqual([[4711], 1]);
	expect(shown(next)).toEqual([[], 0]);
	clock.advance(15_000);
	ingest.ingest(NODE, withProcess(4712));
	expect(shown(next)).toEqual([[4712], 1]);
});

it('shows nothing of a node that is silent but how long it has been', () => {
	ingest.ingest(NODE, fixtureFrame({ atMs: clock.now() }));
	const shown = () => nodeTelemetryMessage(telemetry, { id: NODE, name: 'gpu-1' }, SEES_ALL);
	expect(shown().stale).toBe(false);
	expect(shown().things.length).toBeGreaterThan(8);
	clock.advance(60_000);
	expect(shown()).toMatchObject({ stale: true, ageSeconds: 60, things: [], processes: [] });
});
