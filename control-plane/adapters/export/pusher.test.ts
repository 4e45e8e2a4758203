import { create, toBinary } from '@bufbuild/protobuf';
import { beforeEach, expect, test } from 'vitest';
import { present } from '../../../kit/assert.ts';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import {
	HealthFactKind,
	HealthFactSchema,
	HealthSubjectKind,
	type Inventory,
	InventorySchema,
	PartSampleSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA } from '../../../proto/telemetry-schema/schemas.ts';
import type { NodeEntry } from '../../app/telemetry/directory.ts';
import type { Family, Position } from '../../app/telemetry/families.ts';
import { fixtureFrame, fixtureInventory } from '../../app/telemetry/frames-fixture.ts';
import { identitiesOf } from '../../app/telemetry/identities.ts';
import { TelemetryIngest } from '../../app/telemetry/ingest.ts';
import type { Labels } from '../../app/telemetry/labels.ts';
import { TELEMETRY_LIMITS_DEFAULT } from '../../app/telemetry/limits.ts';
import { XidCounts } from '../../app/telemetry/xid-counts.ts';
import { Pusher, type SampleEncoder } from './pusher.ts';

/** What a receiver has: by series its newest time and whether it is alive. Refuses what is not newer, as Prometheus does. */
class Receiver implements SampleEncoder {
	readonly known = new Map<string, { readonly atMs: number; readonly isAlive: boolean; readonly value: number }>();
	refused = 0;
	/** That a series is gone, however often the same one. */
	markers = 0;
	seriesCount = 0;
	#target: Labels = [];
	#atMs = 0;

	begin(target: Labels, atMs: number): void {
		this.#target = target;
		this.#atMs = atMs;
	}

	series(family: Family, position: Position, labels: Labels, value: number | undefined, more: Labels): void {
		const all = [...this.#target, ...labels, ...position.labels, ...more].map(([name, text]) => `${name}="${text}"`);
		const key = `${family.name}{${all.sort().join()}}`;
		const newest = this.known.get(key);
		if (value === undefined) this.markers += 1;
		if (newest !== undefined && newest.atMs >= this.#atMs) this.refused += 1;
		else this.known.set(key, { atMs: this.#atMs, isAlive: value !== undefined, value: value ?? Number.NaN });
	}

	take(): Buffer {
		return Buffer.alloc(0);
	}

	alive(name: string): string[] {
		return [...this.known].flatMap(([key, { isAlive }]) => (isAlive && key.startsWith(`${name}{`) ? [key] : [])).sort();
	}
}

const NODE = '01930000-0000-7000-8000-000000000001';
let clock: VirtualClock;
let wallMs: number;
let entries: Map<string, NodeEntry>;
let receiver: Receiver;
let xids: XidCounts;
let ingest: TelemetryIngest;
let onChange: (nodeId: string) => void;

function know(inventory: Inventory | undefined, name = 'gpu-1'): void {
	const node = { id: NODE, name, hostname: name, custody: 'platform' as const, generation: 1, labels: {}, bootId: '' };
	const identities = inventory && identitiesOf(toBinary(InventorySchema, inventory));
	entries.set(NODE, { node, assignments: [], identities });
}

beforeEach(() => {
	clock = new VirtualClock();
	wallMs = clock.now();
	entries = new Map();
	know(fixtureInventory({ gpus: 2 }));
	receiver = new Receiver();
	const stepping = { ...timers(clock), now: () => wallMs, monotonic: () => clock.monotonic() };
	const directory = {
		get: (id: string) => entries.get(id),
		onChange: (listener: typeof onChange) => {
			onChange = listener;
			return () => {};
		},
	};
	ingest = new TelemetryIngest({ clock: stepping, log: silentLogger, directory, limits: TELEMETRY_LIMITS_DEFAULT });
	const series = { names: new Set(['gpuaas', 'dcgm'] as const), hostnameLabel: 'Hostname' as const };
	const queue = { append: async () => {} };
	xids = new XidCounts();
	const deps = { clock: stepping, log: silentLogger, directory, queue, encoder: receiver, series, xids };
	ingest.listen(new Pusher({ ...deps, onQueued: () => {} }));
});

function timers(of: VirtualClock) {
	return { setTimer: of.setTimer.bind(of), defer: of.defer.bind(of) };
}

/** One sample, 15 s after the last. */
function say(xid = 0, gpus = 2): void {
	clock.advance(15_000);
	wallMs += 15_000;
	const frame = fixtureFrame({ atMs: wallMs, gpus });
	for (const gpu of frame.gpus) gpu.values[CURRENT_SCHEMA.gpu.findIndex(({ key }) => key === 'xid.last')] = xid;
	ingest.ingest(NODE, frame);
}

const temperatures = () => receiver.alive('DCGM_FI_DEV_GPU_TEMP');

test('a wall clock that steps back loses no sample, and time goes on once it caught up', () => {
	say();
	wallMs -= 60_000;
	for (let turn = 0; turn < 8; turn += 1) say();
	expect(receiver.refused).toBe(0);
	const [newest] = [...receiver.known.values()];
	expect(newest).toMatchObject({ atMs: wallMs, isAlive: true });
});

test('series whose labels stay are never marked as gone', () => {
	say();
	const before = receiver.known.size;
	say();
	clock.advance(15_000);
	wallMs += 15_000;
	const frame = fixtureFrame({ atMs: wallMs, gpus: 2 });
	const at = CURRENT_SCHEMA.gpu.findIndex(({ key }) => key === 'temperature.gpu');
	for (const gpu of frame.gpus) gpu.values[at] = 55;
	ingest.ingest(NODE, frame);
	expect(receiver.known.size).toBe(before);
	expect(receiver.markers).toBe(0);
	expect(temperatures().map((key) => receiver.known.get(key)?.value)).toEqual([55, 55]);
	expect([...receiver.known.values()].every(({ isAlive }) => isAlive)).toBe(true);
});

test('a value that was read too long ago is marked as gone once, while the frames that carry it go on', () => {
	const name = 'gpuaas_disk_smart_temperature_celsius';
	const values: Readonly<Record<string, number>> = { wear: 0.09, 'smart.temperature': 34, 'smart.age': 280 };
	clock.advance(15_000);
	wallMs += 15_000;
	const frame = fixtureFrame({ atMs: wallMs, gpus: 2 });
	frame.disks = [
		create(PartSampleSchema, { id: 'S1', values: CURRENT_SCHEMA.disk.map(({ key }) => values[key] ?? Number.NaN) }),
	];
	ingest.ingest(NODE, frame);
	const sayFast = () => {
		clock.advance(15_000);
		wallMs += 15_000;
		ingest.ingest(NODE, fixtureFrame({ atMs: wallMs, gpus: 2, hasSlow: false }));
	};
	sayFast();
	expect(receiver.alive(name)).toHaveLength(1);
	sayFast();
	expect(receiver.alive(name)).toEqual([]);
	const ofTemperature = () => [...receiver.known].find(([series]) => series.startsWith(`${name}{`))?.[1];
	const marked = ofTemperature();
	expect(marked).toMatchObject({ isAlive: false });
	sayFast();
	expect(ofTemperature()).toEqual(marked);
	expect(receiver.alive('gpuaas_disk_wear_ratio')).toHaveLength(1);
	expect(receiver.refused).toBe(0);
});

test('a GPU that moves to another index ends its old series, and no other', () => {
	say();
	const moved = fixtureInventory({ gpus: 2 });
	present(moved.gpus[1], 'a GPU').index = 7;
	know(moved);
	say();
	for (const name of ['DCGM_FI_DEV_GPU_TEMP', 'gpuaas_gpu_temperature_celsius']) {
		const alive = receiver.alive(name).map((key) => /gpu="(\d+)"/.exec(key)?.[1]);
		expect(alive.sort(), name).toEqual(['0', '7']);
	}
	expect(receiver.refused).toBe(0);
});

test('a new XID ends the series of the former; our own series of it goes on', () => {
	say(0);
	say(79);
	const codes = receiver.alive('DCGM_FI_DEV_XID_ERRORS').map((key) => /err_code="(\d+)"/.exec(key)?.[1]);
	expect(codes).toEqual(['79', '79']);
	expect(receiver.alive('gpuaas_gpu_last_xid')).toHaveLength(2);
	expect(receiver.refused).toBe(0);
});

test('the first inventory, and another name of the node, end what was sent under the old labels', () => {
	know(undefined);
	say();
	expect(receiver.alive('gpuaas_gpu_temperature_celsius').every((key) => key.includes('gpu=""'))).toBe(true);
	know(fixtureInventory({ gpus: 2 }));
	say();
	expect(receiver.alive('gpuaas_gpu_temperature_celsius').map((key) => /gpu="(\d*)"/.exec(key)?.[1])).toEqual([
		'0',
		'1',
	]);
	know(fixtureInventory({ gpus: 2 }), 'renamed');
	say();
	const alive = [...receiver.known].filter(([, { isAlive }]) => isAlive).map(([key]) => key);
	expect(alive.filter((key) => !key.includes('instance="renamed"'))).toEqual([]);
	expect(temperatures()).toHaveLength(2);
});

test('what is not there any more ends: a GPU, a silent node, a node that was removed', () => {
	say();
	say(0, 1);
	expect(temperatures()).toHaveLength(1);
	clock.advance(60_000);
	wallMs += 60_000;
	ingest.sweep();
	expect([...receiver.known.values()].filter(({ isAlive }) => isAlive)).toEqual([]);
	say();
	expect(temperatures()).toHaveLength(2);
	entries.clear();
	onChange(NODE);
	expect([...receiver.known.values()].filter(({ isAlive }) => isAlive)).toEqual([]);
});

test('XIDs that were counted here are pushed, each GPU from 0 on, and end with their GPU', () => {
	say();
	const name = 'gpuaas_xid_events_total';
	const values = () => receiver.alive(name).map((key) => receiver.known.get(key)?.value);
	// Of each GPU, and of none that was told.
	expect(receiver.alive(name)).toHaveLength(3);
	expect(values()).toEqual([0, 0, 0]);
	const [gpu] = fixtureInventory({ gpus: 2 }).gpus;
	const subject = { kind: HealthSubjectKind.GPU, id: gpu?.uuid ?? '' };
	xids.count(NODE, [create(HealthFactSchema, { kind: HealthFactKind.XID, subject, code: 'xid:79', count: 2 })]);
	say();
	const [key = ''] = receiver.alive(name).filter((each) => each.includes(gpu?.uuid ?? '-'));
	expect(receiver.known.get(key)?.value).toBe(2);
	expect(key).toContain('gpu="0"');
	know(fixtureInventory({ gpus: 1 }));
	say(0, 1);
	expect(receiver.alive(name)).toHaveLength(2);
	entries.delete(NODE);
	onChange(NODE);
	expect(receiver.alive(name)).toEqual([]);
	expect(receiver.refused).toBe(0);
});
