import { create, toBinary } from '@bufbuild/protobuf';
import { beforeEach, expect, test } from 'vitest';
import { SEES_ALL } from '../../control-plane/app/telemetry/caller-view.ts';
import type { NodeEntry } from '../../control-plane/app/telemetry/directory.ts';
import { fixtureFrame, fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { identitiesOf } from '../../control-plane/app/telemetry/identities.ts';
import { TelemetryIngest } from '../../control-plane/app/telemetry/ingest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from '../../control-plane/app/telemetry/limits.ts';
import { nodeTelemetryMessage } from '../../control-plane/app/telemetry/messages.ts';
import { exportedSample } from '../../control-plane/app/telemetry/old-values.ts';
import { projectPage } from '../../control-plane/app/telemetry/project-page.ts';
import type { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { XidCounts } from '../../control-plane/app/telemetry/xid-counts.ts';
import { type NodePageOptions, nodePage } from '../../control-plane/ops/node-page.ts';
import type { AssignmentRow } from '../../control-plane/store/port/assignments.ts';
import { present } from '../../kit/assert.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { InventorySchema, PartSampleSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA } from '../../proto/telemetry-schema/schemas.ts';

/** What a disk said of itself an hour ago, in frames of now. */
const NODE = '01930000-0000-7000-8000-000000000001';
const ASSIGNED: AssignmentRow = {
	...{ id: 'a', nodeId: NODE, sliceId: '', mode: 'host', organization: 'acme', project: 'train', generation: 1 },
	...{ fromMs: 0, untilMs: null },
} as AssignmentRow;
let clock: VirtualClock;
let entry: NodeEntry;
let ingest: TelemetryIngest;
beforeEach(() => {
	clock = new VirtualClock();
	const node = { id: NODE, name: 'gpu-1', hostname: 'gpu-1', custody: 'platform', generation: 1, labels: {} } as const;
	const identities = identitiesOf(toBinary(InventorySchema, fixtureInventory({ gpus: 1 })));
	entry = { node: { ...node, bootId: '' }, assignments: [ASSIGNED], identities };
	const directory = { get: () => entry, onChange: () => () => {} };
	ingest = new TelemetryIngest({ clock, log: silentLogger, directory, limits: TELEMETRY_LIMITS_DEFAULT });
});

/** A frame whose disk was asked so long ago; without an age: one that has no slow parts. */
function say(ageSeconds?: number): void {
	const frame = fixtureFrame({ atMs: clock.now(), gpus: 1, hasSlow: ageSeconds !== undefined });
	const values: Readonly<Record<string, number>> = {
		...{ temperature: 40, read: 512, wear: 0.09, smart: 1 },
		...{ 'smart.temperature': 34, 'smart.age': ageSeconds ?? 0 },
	};
	const row = CURRENT_SCHEMA.disk.map(({ key }) => values[key] ?? Number.NaN);
	if (ageSeconds !== undefined) frame.disks = [create(PartSampleSchema, { id: 'S1', values: row })];
	ingest.ingest(NODE, frame);
}

const newest = () => present(ingest.latest.get(NODE), 'a sample');
const OPTIONS: NodePageOptions = {
	...{ names: new Set(['gpuaas']), hostnameLabel: 'Hostname', namesCustomers: false, xids: new XidCounts() },
	health: { verdictsOf: () => [], isQuarantined: () => false },
};

/** Series of the disk, by name, on the page of its node and on that of its project. */
function pages(): Readonly<Record<string, string>>[] {
	const { latest } = ingest;
	const ofNode = nodePage(entry, newest(), latest.ageMs(newest()), OPTIONS).join('');
	const making = projectPage({ directory: { get: () => entry }, latest }, [ASSIGNED], {
		...{ names: OPTIONS.names, charactersMax: 1e6 },
	});
	let made = making.next();
	while (made.done !== true) made = making.next();
	return [ofNode, made.value.text].map((text) =>
		Object.fromEntries([...text.matchAll(/^(gpuaas_disk_\w+)\{.*\} (\S+)$/gm)].map(([, name, value]) => [name, value])),
	);
}

test('a temperature of 5 minutes ago is on no page any more, wear of an hour ago is, each with its age', () => {
	say(300);
	for (const page of pages())
		expect(page).toEqual({
			...{ gpuaas_disk_temperature_celsius: '40', gpuaas_disk_read_bytes_total: '512', gpuaas_disk_wear_ratio: '0.09' },
			...{ gpuaas_disk_smart: '1', gpuaas_disk_smart_temperature_celsius: '34', gpuaas_disk_smart_age_seconds: '300' },
		});
	say(3600);
	for (const page of pages()) {
		expect(page).not.toHaveProperty('gpuaas_disk_smart_temperature_celsius');
		expect(page).toMatchObject({ gpuaas_disk_wear_ratio: '0.09', gpuaas_disk_temperature_celsius: '40' });
	}
	// A disk that sleeps for more than a day.
	say(86_401);
	for (const page of pages()) {
		expect(page).not.toHaveProperty('gpuaas_disk_wear_ratio');
		expect(page).toMatchObject({ gpuaas_disk_smart_age_seconds: '86401', gpuaas_disk_temperature_celsius: '40' });
	}
});

test('it gets older with each frame that carries it, until it is too old', () => {
	say(270);
	for (const age of ['285', '300']) {
		clock.advance(15_000);
		say();
		for (const page of pages())
			expect(page).toMatchObject({ gpuaas_disk_smart_age_seconds: age, gpuaas_disk_smart_temperature_celsius: '34' });
	}
	clock.advance(15_000);
	say();
	for (const page of pages()) expect(page).not.toHaveProperty('gpuaas_disk_smart_temperature_celsius');
	expect(newest().rows.disk).toHaveLength(1);
	const fresh = newest();
	expect(exportedSample(fresh)).not.toBe(fresh);
	say(1);
	expect(exportedSample(newest())).toBe(newest());
});

test('whoever looks sees it with its age, as every value that is older than its frame', () => {
	say(2580);
	clock.advance(15_000);
	say();
	clock.advance(5000);
	const telemetry = { latest: ingest.latest, directory: { get: () => entry }, ingest } as unknown as Telemetry;
	const { things, ageSeconds } = nodeTelemetryMessage(telemetry, entry.node, SEES_ALL);
	expect(ageSeconds).toBe(5);
	const values = (part: string) =>
		new Map(
			things.find((thing) => thing.part === part)?.values.map(({ key, value, ageSeconds: age }) => [key, [value, age]]),
		);
	expect(values('disk').get('smart.temperature')).toEqual([34, 2600]);
	expect(values('disk').get('wear')).toEqual([0.09, 2600]);
	expect(values('disk').get('temperature')).toEqual([40, 20]);
	expect(values('disk').get('smart.age')).toEqual([2595, undefined]);
	expect(values('gpu').get('temperature.gpu')?.[1]).toBeUndefined();
	expect(values('gpu').get('ecc.enabled')?.[1]).toBe(20);
	expect(values('host').get('load.1')?.[1]).toBeUndefined();
});
