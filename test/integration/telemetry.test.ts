import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { Code } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CommandInit } from '../../control-plane/app/sessions/command-stream.ts';
import type { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import {
	type FixtureOptions,
	fixtureFrame,
	fixtureInventory,
} from '../../control-plane/app/telemetry/frames-fixture.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	GpuProcessSchema,
	HistoryAnswerSchema,
	InventorySchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { TelemetryService } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { CURRENT_SCHEMA } from '../../proto/telemetry-schema/schemas.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';

/** Real API, store, history file; agents are *simulated*: frames are handed to the ingest, rings answer by hand. */
let world: ApiWorld;
let tenantKey: string;
let viewerKey: string;
let tenant: ReturnType<typeof telemetryClient>;
let operator: ReturnType<typeof telemetryClient>;
let commands: CommandInit[];
const ACME = { organization: 'acme', project: 'train' };
const RIVAL = { organization: 'rival', project: 'train' };

function telemetryClient(key: string) {
	return world.client(TelemetryService, key);
}

beforeAll(async () => {
	world = await ApiWorld.start();
	tenantKey = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
	viewerKey = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme/projects/train');
	tenant = telemetryClient(tenantKey);
	operator = telemetryClient(world.operatorKey);
});
afterAll(() => world[Symbol.asyncDispose]());

const telemetry = () => world.deps.telemetry;

/** A node with GPUs whose agent is connected; `answer` is what its ring has. */
async function addGpuNode(fixture: FixtureOptions = {}): Promise<NodeRow> {
	const node = await world.addNode();
	await world.deps.store.unit((tx) =>
		tx.inventories.put({
			nodeId: node.id,
			custody: 'platform',
			digest: 'd',
			inventory: toBinary(InventorySchema, fixtureInventory(fixture)),
			receivedAtMs: systemClock.now(),
		}),
	);
	world.deps.bus.publish({ topic: 'nodes.inventory', key: node.id });
	await eventually('its inventory is known', () => telemetry().directory.get(node.id)?.identities !== undefined);
	commands = [];
	(world.deps.sessions as SessionRegistry).add({
		nodeId: node.id,
		epoch: 1,
		serial: '',
		command: (_key, command) => commands.push(command) > 0,
		close: () => {},
	});
	return node;
}

function disconnect(node: NodeRow): void {
	const sessions = world.deps.sessions as SessionRegistry;
	sessions.remove(present(sessions.get(node.id), 'a session'));
}

function say(node: NodeRow, fixture: FixtureOptions & { tick?: number } = {}) {
	telemetry().ingest.ingest(node.id, fixtureFrame({ atMs: systemClock.now(), ...fixture }));
}

async function assign(
	node: NodeRow,
	project: typeof ACME,
	more: { fromMs?: number; untilMs?: number; sliceId?: string } = {},
) {
	const row = {
		...{ id: uuidv7(systemClock.now(), systemRng), nodeId: node.id, sliceId: '', mode: 'operator' as const },
		...{ ...project, generation: 1, fromMs: systemClock.now(), untilMs: null, ...more },
	};
	await world.deps.store.unit((tx) => tx.assignments.insert(row));
	return row;
}

describe('what nodes measure now', () => {
	test('a list has a line of each node with its GPUs, and says what is simulated', async () => {
		const node = await addGpuNode();
		say(node);
		const { nodes } = await operator.listNodeTelemetry({});
		const mine = present(
			nodes.find(({ nodeId }) => nodeId === node.id),
			'the node',
		);
		expect(mine).toMatchObject({ name: node.name, stale: false, simulated: true, custody: Custody.PLATFORM });
		expect(mine.gpus.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
		expect(mine.gpus[0]).toMatchObject({ model: 'NVIDIA H100 80GB HBM3', temperatureCelsius: 51, powerWatts: 431.5 });
		expect(mine.load1).toBeDefined();
	});

	test('everything of a node; what is absent is not there', async () => {
		const node = await addGpuNode({ model: 'A100', gpus: 1 });
		say(node, { model: 'A100', gpus: 1 });
		const { telemetry: shown } = await operator.getNodeTelemetry({ node: node.name });
		const gpu = present(
			shown?.things.find(({ part }) => part === 'gpu'),
			'the GPU',
		);
		expect(gpu).toMatchObject({ model: 'NVIDIA A100-SXM4-80GB' });
		const keys = gpu.values.map(({ key }) => key);
		expect(keys).toContain('utilisation.gpu');
		expect(keys).toContain('memory.total');
		expect(keys.filter((key) => key.startsWith('gpm.'))).toEqual([]);
		expect(gpu.values.find(({ key }) => key === 'power.usage')).toMatchObject({ value: 431.5, unit: 'watts' });
	});

	test('a silent node, and one whose frames are refused, have no numbers and say why', async () => {
		const node = await addGpuNode();
		telemetry().ingest.ingest(node.id, fixtureFrame({ atMs: 0 }));
		const { telemetry: shown } = await operator.getNodeTelemetry({ node: node.id });
		expect(shown).toMatchObject({ stale: true, refused: 'timestamp_ancient', things: [] });
	});

	test('a watcher hears each sample, and no more once the node is not its any longer', async () => {
		const node = await addGpuNode({ gpus: 1 });
		const row = await assign(node, ACME, { fromMs: systemClock.now() - 1000 });
		say(node, { gpus: 1 });
		const messages = tenant.watchNodeTelemetry({ node: node.name })[Symbol.asyncIterator]();
		const heat = async () => {
			const { value } = await messages.next();
			const things = value?.telemetry?.things ?? [];
			const gpu = things.find(({ part }: { part: string }) => part === 'gpu');
			return gpu?.values.find(({ key }: { key: string }) => key === 'temperature.gpu')?.value;
		};
		expect(await heat()).toBeCloseTo(51);
		const next = heat();
		say(node, { gpus: 1, tick: 1 });
		expect(await next).toBeCloseTo(51 * 1.05);
		await world.deps.store.unit((tx) => tx.assignments.close(row.id, systemClock.now()));
		const end = messages.next();
		say(node, { gpus: 1, tick: 2 });
		await expect(end).rejects.toMatchObject({ code: Code.NotFound });
	});
});

describe('an XID in a watched stream', () => {
	const XID = CURRENT_SCHEMA.gpu.findIndex(({ key }) => key === 'xid.last');
	const OWN_GPU = { gpus: 1, node: 61 } as const;

	function sayXid(node: NodeRow, code: number): void {
		const frame = fixtureFrame({ atMs: systemClock.now(), ...OWN_GPU });
		for (const { values } of frame.gpus) values[XID] = code;
		telemetry().ingest.ingest(node.id, frame);
	}

	/** The XID in each message; undefined: the GPU is shown without one. */
	function watch(client: ReturnType<typeof telemetryClient>, node: NodeRow, signal: AbortSignal) {
		const messages = client.watchNodeTelemetry({ node: node.name }, { signal })[Symbol.asyncIterator]();
		return async () => {
			const { value } = await messages.next();
			const gpu = (value?.telemetry?.things ?? []).find(({ part }: { part: string }) => part === 'gpu');
			return present(gpu, 'a GPU').values.find(({ key }: { key: string }) => key === 'xid.last')?.value;
		};
	}

	test('of the tenant before is not in it, one of the watcher’s own time is; the operator sees both', async () => {
		const node = await addGpuNode(OWN_GPU);
		const rival = await assign(node, RIVAL);
		sayXid(node, 0);
		sayXid(node, 79);
		await world.deps.store.unit((tx) => tx.assignments.close(rival.id, systemClock.now()));
		const { fromMs } = await assign(node, ACME);
		// What came in the same moment as the assignment is nobody's for sure.
		await eventually('the next moment', () => systemClock.now() > fromMs);
		sayXid(node, 79);
		const ended = new AbortController();
		const [mine, operators] = [watch(tenant, node, ended.signal), watch(operator, node, ended.signal)];
		expect([await mine(), await operators()]).toEqual([undefined, 79]);
		// The same code again is no change that anybody could tell from the former one standing still.
		const again = [mine(), operators()];
		sayXid(node, 79);
		expect(await Promise.all(again)).toEqual([undefined, 79]);
		const own = [mine(), operators()];
		sayXid(node, 31);
		expect(await Promise.all(own)).toEqual([31, 31]);
		ended.abort();
	});
});

describe('a project sees', () => {
	test('only nodes that it has, and nothing of the time before', async () => {
		const node = await addGpuNode();
		say(node);
		const names = async () => (await tenant.listNodeTelemetry({})).nodes.map(({ nodeId }) => nodeId);
		expect(await names()).not.toContain(node.id);
		await expect(tenant.getNodeTelemetry({ node: node.id })).rejects.toMatchObject({ code: Code.NotFound });
		await assign(node, ACME, { fromMs: systemClock.now() + 1 });
		expect(await names()).toContain(node.id);
		const before = await tenant.getNodeTelemetry({ node: node.id });
		expect(before.telemetry?.things).toEqual([]);
		const glance = (await tenant.listNodeTelemetry({})).nodes.find(({ nodeId }) => nodeId === node.id);
		expect(glance).toMatchObject({ gpus: [] });
		expect(glance?.load1).toBeUndefined();
		await eventually('the assignment has begun', () => {
			say(node);
			return tenant.getNodeTelemetry({ node: node.id }).then((answer) => (answer.telemetry?.things.length ?? 0) > 8);
		});
	});

	test('of a shared host its slices alone', async () => {
		const fixture = { model: 'H100 MIG', gpus: 1, node: 5 } as const;
		const node = await addGpuNode(fixture);
		const [own, other] = fixtureInventory(fixture).slices;
		await assign(node, ACME, { sliceId: present(own, 'a slice').uuid, fromMs: 1 });
		await assign(node, RIVAL, { sliceId: present(other, 'a slice').uuid, fromMs: 1 });
		say(node, fixture);
		const { telemetry: shown } = await tenant.getNodeTelemetry({ node: node.id });
		expect(shown?.things.map(({ part, id }) => [part, id])).toEqual([['slice', own?.uuid]]);
		// Its processes too, and not how many others there are.
		const frame = fixtureFrame({ atMs: systemClock.now(), ...fixture });
		frame.gpuProcesses = [own, other].map((slice, pid) =>
			create(GpuProcessSchema, { gpu: slice?.uuid ?? '', pid: pid + 1, memoryBytes: 1024 }),
		);
		frame.gpuProcessesLeftOut = 3;
		telemetry().ingest.ingest(node.id, frame);
		const processesOf = async (who: typeof tenant) => {
			const answer = (await who.getNodeTelemetry({ node: node.id })).telemetry;
			return [answer?.processes.map(({ gpu, pid }) => [gpu, pid]), answer?.processesLeftOut];
		};
		expect(await processesOf(tenant)).toEqual([[[own?.uuid, 1]], 0]);
		expect(await processesOf(operator)).toEqual([[own, other].map((slice, pid) => [slice?.uuid, pid + 1]), 3]);
		const glance = (await tenant.listNodeTelemetry({})).nodes.find(({ nodeId }) => nodeId === node.id);
		expect(glance?.gpus.map(({ uuid, profile }) => [uuid, profile])).toEqual([[own?.uuid, '3g.40gb']]);
		expect(glance?.load1).toBeUndefined();
		const all = await operator.getNodeTelemetry({ node: node.id });
		expect(all.telemetry?.things.map(({ part }) => part).sort()).toEqual(['gpu', 'host', 'slice', 'slice']);
	});
});

describe('history', () => {
	const KEY = 'temperature.gpu';
	const MINUTE = 60_000;

	/** Rolled-up minutes as if the node had sent a frame a minute from `fromMs` on. */
	async function minutes(node: NodeRow, fromMs: number, count: number): Promise<void> {
		const writer = present(telemetry().writer, 'history is kept');
		const uuid = fixtureInventory({ gpus: 1 }).gpus[0]?.uuid ?? '';
		for (let minute = 0; minute < count; minute += 1) {
			const nowMs = fromMs + minute * MINUTE;
			const values = new Float64Array(CURRENT_SCHEMA.gpu.length).fill(Number.NaN);
			values[CURRENT_SCHEMA.gpu.findIndex(({ key }) => key === KEY)] = 40 + minute;
			writer.onSample(
				{
					...{ nodeId: node.id, schema: 2, custody: 'platform', simulated: true, probe: 3, dropped: 0, inventory: '' },
					...{ takenAtMs: nowMs, receivedAtMs: nowMs, heardAtMs: nowMs, slowHeardAtMs: 0 },
					rows: {
						...{ host: [], slice: [], gpuSlow: [], nvlink: [], ibPort: [], disk: [] },
						gpu: [{ id: uuid, index: 0, values }],
					},
				},
				undefined,
			);
		}
		writer.onSilence(node.id);
	}

	const ask = (client: typeof operator, node: NodeRow, fromMs: number, more = {}) =>
		client.queryTelemetryHistory({ node: node.id, part: 'gpu', keys: [KEY], from: timestampFromMs(fromMs), ...more });

	test('is minutes where the ring does not reach, and the ring after that', async () => {
		const node = await addGpuNode({ gpus: 1 });
		const start = Math.floor((systemClock.now() - 6 * 3_600_000) / MINUTE) * MINUTE;
		await minutes(node, start, 30);
		const id = fixtureInventory({ gpus: 1 }).gpus[0]?.uuid ?? '';
		const ringAt = systemClock.now() - MINUTE;
		const answering = ask(operator, node, start, { pointsMax: 1440 });
		const query = await eventually('the ring was asked', () =>
			commands.find(({ command }) => command?.case === 'historyQuery'),
		);
		const { value } = query.command as Extract<CommandInit['command'], { case: 'historyQuery' }>;
		expect(value).toMatchObject({ part: 'gpu', id: '', keys: [KEY] });
		const answer = create(HistoryAnswerSchema, {
			queryId: value.queryId ?? '',
			schema: 2,
			simulated: true,
			series: [{ id, index: 0, key: KEY, atMs: [BigInt(ringAt), BigInt(ringAt + 15_000)], values: [80, 90] }],
		});
		telemetry().rings.answer(uuidv7(1, systemRng), answer);
		telemetry().rings.answer(node.id, answer);
		const found = await answering;
		const [series] = found.series;
		expect(series).toMatchObject({ id, key: KEY, unit: 'celsius', isRate: false });
		expect(series?.average.slice(0, 30)).toEqual(Array.from({ length: 30 }, (_, minute) => 40 + minute));
		expect(series?.atMs.slice(0, 2).map(Number)).toEqual([start, start + MINUTE]);
		expect(Math.max(...(series?.maximum.slice(30) ?? []))).toBe(90);
		expect(found).toMatchObject({ simulated: true, custodies: [Custody.PLATFORM] });
		expect(Number(timestampMs(present(found.ringFrom, 'the ring answered')))).toBe(ringAt);
	});

	test('is minutes alone when the agent is away', async () => {
		const node = await addGpuNode({ gpus: 1 });
		const start = Math.floor((systemClock.now() - 2 * 3_600_000) / MINUTE) * MINUTE;
		await minutes(node, start, 5);
		disconnect(node);
		const found = await ask(operator, node, start);
		expect(found.ringFrom).toBeUndefined();
		expect(found.series[0]?.average).toEqual([40, 41, 42, 43, 44]);
	});

	test('is clipped to the time in which the caller’s project had the node', async () => {
		const node = await addGpuNode({ gpus: 1 });
		const start = Math.floor((systemClock.now() - 8 * 3_600_000) / MINUTE) * MINUTE;
		await minutes(node, start, 40);
		await assign(node, ACME, { fromMs: start + 5 * MINUTE, untilMs: start + 10 * MINUTE });
		await assign(node, RIVAL, { fromMs: start + 10 * MINUTE, untilMs: start + 20 * MINUTE });
		await assign(node, ACME, { fromMs: start + 30 * MINUTE });
		const until = { until: timestampFromMs(start + 60 * MINUTE), pointsMax: 600 };
		const values = async (client: typeof operator) => (await ask(client, node, start, until)).series[0]?.average;
		expect(await values(operator)).toHaveLength(40);
		expect(await values(tenant)).toEqual([45, 46, 47, 48, 49, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79]);
	});

	test('of what isn’t measured, and of no time, is refused with what to do', async () => {
		const node = await addGpuNode();
		await expect(ask(operator, node, systemClock.now() - 1000, { keys: ['temprature'] })).rejects.toThrow(
			/it has: .*temperature.gpu/,
		);
		await expect(ask(operator, node, systemClock.now() + 60_000)).rejects.toThrow(/before now/);
		await expect(ask(operator, node, systemClock.now() - 40 * 86_400_000)).rejects.toThrow(/31 days/);
	});
});

describe('sampling faster', () => {
	test('is told to the agent with its end, bounded, audited, and refused while it is away', async () => {
		const node = await addGpuNode();
		await assign(node, ACME);
		const before = systemClock.now();
		const { until } = await tenant.requestFastTelemetry({ node: node.id, duration: durationFromMs(86_400_000) });
		const untilMs = timestampMs(present(until, 'until'));
		expect(untilMs).toBeGreaterThanOrEqual(before + 600_000);
		expect(untilMs).toBeLessThan(systemClock.now() + 601_000);
		expect(commands).toMatchObject([{ command: { case: 'telemetryPlan', value: { fastPeriod: { seconds: 1n } } } }]);
		expect(telemetry().fastPlans.planOf(node.id)).toEqual({ fastPeriodMs: 1000, fastUntilMs: untilMs });
		expect(
			(await world.audit()).some(({ action, target }) => action === 'telemetry.fast' && target === `nodes/${node.id}`),
		).toBe(true);
		await expect(telemetryClient(viewerKey).requestFastTelemetry({ node: node.id })).rejects.toMatchObject({
			code: Code.PermissionDenied,
		});
		const away = await world.addNode();
		await expect(operator.requestFastTelemetry({ node: away.id })).rejects.toThrow(/not connected/);
	});
});

describe('inventory', () => {
	test('is shown with its custody; a node without one says so; tenants have no serials', async () => {
		const node = await addGpuNode({ gpus: 2 });
		await assign(node, ACME);
		const { inventory, custody } = await operator.getNodeInventory({ node: node.name });
		expect(inventory?.gpus.map(({ serial }) => serial)).toEqual(['16500', '16501']);
		expect(custody).toBe(Custody.PLATFORM);
		const bare = await world.addNode();
		await expect(operator.getNodeInventory({ node: bare.id })).rejects.toThrow(/has not reported/);
		await expect(tenant.getNodeInventory({ node: node.id })).rejects.toMatchObject({ code: Code.PermissionDenied });
	});
});
