import { toBinary } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
	type FixtureOptions,
	fixtureFrame,
	fixtureInventory,
} from '../../control-plane/app/telemetry/frames-fixture.ts';
import type { AssignmentRow } from '../../control-plane/store/port/assignments.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { TelemetryService } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { CURRENT_SCHEMA } from '../../proto/telemetry-schema/schemas.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { rawCall } from './raw-api.ts';

/** A project's page for Prometheus: real API, store and directory; agents are *simulated*. */
const ACME = { organization: 'acme', project: 'train' };
const RIVAL = { organization: 'rival', project: 'train' };
const ACME_NAME = 'organizations/acme/projects/train';
const PATH = '/metrics/projects/acme/train';

let world: ApiWorld;
let acmeKey: string;
let rivalKey: string;
let nodes = 0;
/** On the world's telemetry clock: moved on to make samples old. */
let lateMs = 0;

beforeAll(async () => {
	const telemetryClock = { ...systemClock, monotonic: () => systemClock.monotonic() + lateMs };
	world = await ApiWorld.start({ telemetryClock, telemetryLimits: { projectPageCharactersMax: 400_000 } });
	acmeKey = await world.addPrincipal('service_account', 'tenant.viewer', ACME_NAME);
	rivalKey = await world.addPrincipal('service_account', 'tenant.viewer', 'organizations/rival/projects/train');
});
afterAll(() => world[Symbol.asyncDispose]());
async function addGpuNode(fixture: FixtureOptions = {}): Promise<{ node: NodeRow; fixture: FixtureOptions }> {
	nodes += 1;
	const node = await world.addNode();
	const own = { gpus: 2, node: nodes, ...fixture };
	const inventory = toBinary(InventorySchema, fixtureInventory(own));
	const receivedAtMs = systemClock.now();
	const row = { nodeId: node.id, custody: 'platform', digest: 'd', inventory, receivedAtMs } as const;
	await world.deps.store.unit((tx) => tx.inventories.put(row));
	world.deps.bus.publish({ topic: 'nodes.inventory', key: node.id });
	const { directory } = world.deps.telemetry;
	await eventually('its inventory is known', () => directory.get(node.id)?.identities !== undefined);
	return { node, fixture: own };
}

function say({ node, fixture }: { node: NodeRow; fixture: FixtureOptions }, more: { hasSlow?: boolean } = {}): void {
	world.deps.telemetry.ingest.ingest(node.id, fixtureFrame({ atMs: systemClock.now(), ...fixture, ...more }));
}

async function assign({ id: nodeId }: NodeRow, of: typeof ACME, more: Partial<AssignmentRow> = {}) {
	const id = uuidv7(systemClock.now(), systemRng);
	const fromMs = systemClock.now();
	const row = { id, nodeId, sliceId: '', mode: 'host', ...of, generation: 1, fromMs, untilMs: null, ...more } as const;
	await world.deps.store.unit((tx) => tx.assignments.insert(row));
	return row;
}

const end = (id: string) => world.deps.store.unit((tx) => tx.assignments.close(id, systemClock.now()));

const scrape = async (key: string | undefined, path = PATH, method = 'GET') => {
	const { status, headers, body } = await rawCall(world, { path, key, method, body: '' });
	return { status, headers, text: body.toString() };
};

/** Ids of nodes that the page has a series of this family of. */
const nodesOf = (text: string, family: string) =>
	new Set([...text.matchAll(new RegExp(`^${family}\\{node="([^"]+)"`, 'gm'))].map(([, id]) => id));

test('has exactly the nodes of the project, by both spellings, clipped to slices, without serials', async () => {
	const [mine, theirs, nobodys] = [await addGpuNode(), await addGpuNode(), await addGpuNode()];
	const shared = await addGpuNode({ model: 'H100 MIG', gpus: 1 });
	const [first, second] = fixtureInventory(shared.fixture).slices.map(({ uuid }) => uuid);
	const open = [
		await assign(mine.node, ACME),
		await assign(theirs.node, RIVAL),
		await assign(shared.node, ACME, { sliceId: first ?? '', mode: 'slice' }),
		await assign(shared.node, RIVAL, { sliceId: second ?? '', mode: 'slice' }),
	];
	for (const each of [mine, theirs, nobodys, shared]) say(each);
	const { status, headers, text } = await scrape(acmeKey);
	expect(status).toBe(200);
	expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
	expect(nodesOf(text, 'gpuaas_gpu_temperature_celsius')).toEqual(new Set([mine.node.id]));
	expect(nodesOf(text, 'gpuaas_node_telemetry_fresh')).toEqual(new Set([mine.node.id, shared.node.id]));
	expect(text).toMatch(/^DCGM_FI_DEV_GPU_TEMP\{gpu="1",UUID="GPU-/m);
	// Of the shared host only the own slice: neither the neighbour nor the host that both run on.
	expect(text).toContain(String(first));
	expect(text).not.toContain(String(second));
	expect(nodesOf(text, 'gpuaas_node_load1')).toEqual(new Set([mine.node.id]));
	for (const { id } of [theirs.node, nobodys.node]) expect(text).not.toContain(id);
	expect(text).toContain('organization="acme",project="train"');
	expect(text).not.toContain('rival');
	expect(text).toContain(',serial="",');
	expect(text).not.toMatch(/serial="1/);
	// Every family once, with its samples behind it.
	const headersOf = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
	expect(new Set(headersOf).size).toBe(headersOf.length);
	for (const { id } of open) await end(id);
});

test('an assignment that ended is gone with the next page, though its node still speaks', async () => {
	const each = await addGpuNode();
	const { id } = await assign(each.node, ACME);
	say(each);
	expect((await scrape(acmeKey)).text).toContain(each.node.id);
	await end(id);
	say(each);
	const { status, text } = await scrape(acmeKey);
	expect({ status, text }).toEqual({ status: 200, text: '' });
});

test('what was measured before the assignment is not shown, slow parts neither', async () => {
	const each = await addGpuNode();
	say(each);
	const { id } = await assign(each.node, ACME, { fromMs: systemClock.now() + 1 });
	const before = (await scrape(acmeKey)).text;
	expect(before).toMatch(/^gpuaas_node_telemetry_fresh\{.*\} 0$/m);
	expect(before).not.toContain('gpuaas_gpu_temperature_celsius');
	lateMs += 1000;
	await eventually('a frame of its own time', async () => {
		say(each, { hasSlow: false });
		return (await scrape(acmeKey)).text.includes('gpuaas_gpu_temperature_celsius');
	});
	// The frame before had ECC counters; those of this tenant's time did not come yet.
	const now = (await scrape(acmeKey)).text;
	expect(world.deps.telemetry.latest.get(each.node.id)?.rows.gpuSlow.length).toBeGreaterThan(0);
	expect(now).not.toContain('gpuaas_gpu_memory_bytes');
	say(each);
	expect((await scrape(acmeKey)).text).toContain('gpuaas_gpu_memory_bytes');
	await end(id);
});

test('an XID of the tenant before is not shown, one of this tenant’s time is: page, node and glance', async () => {
	const each = await addGpuNode({ gpus: 1 });
	const at = CURRENT_SCHEMA.gpu.findIndex(({ key }) => key === 'xid.last');
	const sayXid = (code: number) => {
		const frame = fixtureFrame({ atMs: systemClock.now(), ...each.fixture });
		for (const { values } of frame.gpus) values[at] = code;
		world.deps.telemetry.ingest.ingest(each.node.id, frame);
	};
	const shown = async (key: string, path: string) => {
		const client = world.client(TelemetryService, key);
		const { telemetry } = await client.getNodeTelemetry({ node: each.node.id });
		const { nodes: glances } = await client.listNodeTelemetry({ pageSize: 1000 });
		const { text } = await scrape(key, path);
		expect(text).toContain(each.node.id);
		return {
			page: [/^gpuaas_gpu_last_xid\{.* (\S+)$/m, /^DCGM_FI_DEV_XID_ERRORS\{.* (\S+)$/m].map((of) => of.exec(text)?.[1]),
			node: telemetry?.things.flatMap(({ values }) => values).find(({ key: of }) => of === 'xid.last')?.value,
			glance: glances.find(({ nodeId }) => nodeId === each.node.id)?.gpus[0]?.lastXid,
		};
	};
	const all = (code: number) => ({ page: [String(code), String(code)], node: code, glance: code });
	const first = await assign(each.node, ACME);
	sayXid(0);
	expect(await shown(acmeKey, PATH)).toEqual(all(0));
	sayXid(79);
	sayXid(79);
	expect(await shown(acmeKey, PATH)).toEqual(all(79));
	await end(first.id);
	await assign(each.node, RIVAL, { fromMs: systemClock.now() + 1 });
	const rival = '/metrics/projects/rival/train';
	const later = systemClock.monotonic() + 2;
	await eventually('the next moment', () => systemClock.monotonic() > later);
	sayXid(79);
	sayXid(79);
	expect(await shown(rivalKey, rival)).toEqual({ page: [undefined, undefined], node: undefined, glance: undefined });
	sayXid(31);
	expect(await shown(rivalKey, rival)).toEqual(all(31));
});

test('a silent node says so and has no values: old ones would look like new ones', async () => {
	const each = await addGpuNode();
	const { id } = await assign(each.node, ACME);
	say(each);
	expect((await scrape(acmeKey)).text).toMatch(/^gpuaas_node_telemetry_fresh\{.*\} 1$/m);
	lateMs += 60_000;
	const { text } = await scrape(acmeKey);
	expect(text).toMatch(/^gpuaas_node_telemetry_fresh\{.*\} 0$/m);
	expect(text).not.toContain('gpuaas_gpu_temperature_celsius');
	await end(id);
});

test('others are refused as everywhere: 401, 404, 403 by reason, and nothing of the project in it', async () => {
	const billing = await world.addPrincipal('user', 'tenant.billing', ACME_NAME);
	const nobody = await scrape(undefined);
	expect(nobody).toMatchObject({ status: 401, text: expect.stringMatching(/^UNAUTHENTICATED: /) });
	expect(nobody.headers['www-authenticate']).toMatch(/^Bearer/);
	const theirs = await scrape(rivalKey);
	expect(theirs).toMatchObject({ status: 404, text: expect.stringMatching(/^SCOPE_NOT_FOUND: /) });
	expect((await scrape(rivalKey, '/metrics/projects/acme/nothing')).text).toBe(theirs.text);
	expect(await scrape(billing)).toMatchObject({ status: 403, text: expect.stringMatching(/^PERMISSION_DENIED: /) });
	expect((await scrape(acmeKey, PATH, 'DELETE')).status).toBe(405);
	expect(await scrape(acmeKey, `${PATH}?names=prometheus`)).toMatchObject({
		status: 400,
		text: expect.stringMatching(/^INVALID_REQUEST: .*names/),
	});
	for (const wrong of ['of=x', 'of=1001', 'shard=-1'])
		expect((await scrape(acmeKey, `${PATH}?${wrong}`)).status).toBe(400);
	expect((await scrape(acmeKey, `${PATH}?shard=4&of=4`)).text).toMatch(/^TELEMETRY_RANGE_INVALID: /);
	const refused = (await world.audit()).filter(
		({ action, result }) => action === 'telemetry.get' && result === 'denied',
	);
	expect(refused.map(({ reason }) => reason)).toEqual(expect.arrayContaining(['SCOPE_NOT_FOUND', 'PERMISSION_DENIED']));
});

test('by RPC: the same page, only of a project, and in parts that make up the whole', async () => {
	const each = [await addGpuNode(), await addGpuNode(), await addGpuNode()];
	const open = [];
	for (const { node } of each) open.push(await assign(node, ACME));
	for (const one of each) say(one);
	const client = world.client(TelemetryService, acmeKey);
	const whole = await client.getProjectMetrics({ scope: ACME_NAME, names: 'dcgm' });
	expect(whole).toMatchObject({ nodes: 3, silent: 0 });
	expect(whole.text).not.toMatch(/^gpuaas_gpu_/m);
	const parts = await Promise.all(
		[0, 1, 2].map((shard) => client.getProjectMetrics({ scope: ACME_NAME, names: 'dcgm', shard, shards: 3 })),
	);
	const temperatures = (text: string) => text.split('\n').filter((line) => line.startsWith('DCGM_FI_DEV_GPU_TEMP{'));
	expect(parts.flatMap(({ text }) => temperatures(text)).sort()).toEqual(temperatures(whole.text).sort());
	expect(temperatures(whole.text)).toHaveLength(6);
	const operator = world.client(TelemetryService, world.operatorKey);
	await expect(operator.getProjectMetrics({ scope: 'organizations/acme' })).rejects.toMatchObject({
		code: Code.InvalidArgument,
		rawMessage: expect.stringMatching(/of a project/),
	});
	for (const { id } of open) await end(id);
});

test('is bounded in size and in number, and says how to ask', async () => {
	const each = await addGpuNode({ gpus: 16 });
	const many = [each, await addGpuNode({ gpus: 16 }), await addGpuNode({ gpus: 16 }), await addGpuNode({ gpus: 16 })];
	const open = [];
	for (const one of many) {
		open.push(await assign(one.node, RIVAL));
		say(one);
	}
	const rival = '/metrics/projects/rival/train';
	expect(await scrape(rivalKey, rival)).toMatchObject({
		status: 429,
		text: expect.stringMatching(/^TELEMETRY_PAGE_TOO_LARGE: .*shard=0&of=4/),
	});
	const parts = [0, 1, 2, 3, 4].map((shard) => `${rival}?shard=${shard}&of=1000`);
	const pages = [];
	for (const part of parts) pages.push({ part, ...(await scrape(rivalKey, part)) });
	// Four nodes: at least one of five parts has none of them, and is small whatever their ids are.
	const { part: small } = present(
		pages.sort((one, other) => one.text.length - other.text.length).find(({ status }) => status === 200),
		'of five parts one is empty',
	);
	let last = await scrape(rivalKey, small);
	for (let count = 0; count < 200 && last.status === 200; count += 1) last = await scrape(rivalKey, small);
	expect(last).toMatchObject({ status: 429, text: expect.stringMatching(/^RATE_LIMITED: /) });
	expect(last.headers['retry-after']).toMatch(/^\d+$/);
	// Nobody else's page waits for it.
	expect((await scrape(acmeKey)).status).toBe(200);
	for (const { id } of open) await end(id);
});
