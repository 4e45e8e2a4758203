import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import { OpsServer } from '../../control-plane/ops/server.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import { HealthService } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_0, HealthWorld } from './health-world.ts';
import { refusalOf } from './refusal.ts';

/**
 * A drill on a node whose driver is real, as far as anybody is told: wherever a person or a program looks, what came of it
 * is said to be simulated, and a node beside it with a real fault is not.
 */
const GPUAAS = join(import.meta.dirname, '../../gpuaas');
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-drill-'));
let world: HealthWorld;
let ops: OpsServer;
let drilled: NodeRow;
let broken: NodeRow;

beforeAll(async () => {
	world = await HealthWorld.start({ quarantine: { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, nodesMax: 1000 } });
	const { deps, registry, url, rootPem, operatorKey } = world.api;
	const listen = { host: '127.0.0.1', port: 0 };
	ops = await OpsServer.listen({ deps, registry, telemetry: deps.telemetry, health: world.monitor, listen });
	const context = { address: url, caPem: rootPem, key: operatorKey };
	writeFileSync(join(folder, 'contexts.json'), JSON.stringify({ current: 'x', contexts: { x: context } }), {
		mode: 0o600,
	});
	drilled = await world.addWellNode({ name: 'drilled', labels: { 'gpuaas.fault-injection': 'allowed' } });
	broken = await world.addWellNode({ name: 'broken' });
	const { taskId, endsAt } = await world.operator.injectNodeFault({
		node: drilled.id,
		faults: [{ kind: HealthFactKind.XID, code: 'xid:79', subject: { kind: HealthSubjectKind.GPU, id: GPU_0 } }],
		duration: durationFromMs(3_600_000),
		reason: 'drill',
	});
	const more = { simulated: true, injection: taskId, injectionEndsAt: present(endsAt, 'an end') };
	await world.xid(drilled, 79, more);
	await world.xid(broken, 79);
	for (const node of [drilled, broken]) world.say(node);
	await world.look();
});
afterAll(async () => {
	await ops[Symbol.asyncDispose]();
	await world[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

/** Not `spawnSync`: the API that it talks to is in this process. */
function run(...args: string[]): Promise<string> {
	const env = { ...process.env, GPUAAS_CONFIG_DIR: folder, TERM: 'xterm' };
	const child = spawn(GPUAAS, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
	let out = '';
	child.stdout.on('data', (data) => (out += String(data)));
	child.stderr.on('data', (data) => (out += String(data)));
	return new Promise((resolve) => child.on('close', () => resolve(out)));
}

const page = async (path: string) => await (await fetch(`http://127.0.0.1:${ops.address.port}${path}`)).text();
const linesWith = (text: string, ...words: readonly string[]) =>
	text.split('\n').filter((line) => words.every((word) => line.includes(word)));

/** What of an answer is about the drill, and what about the real fault; from each line that names the fault or the state. */
const SURFACES: readonly (readonly [what: string, ask: (node: NodeRow) => Promise<readonly string[]>])[] = [
	['node list', async ({ name }) => linesWith(await run('node', 'list'), name)],
	['node health', async ({ name }) => linesWith(await run('node', 'health'), name, 'UNHEALTHY')],
	[
		'node health NODE, its verdict',
		async ({ name }) => linesWith(await run('node', 'health', name), 'GPU-0', 'UNHEALTHY'),
	],
	['node health NODE, lately', async ({ name }) => linesWith(await run('node', 'health', name), '-> UNHEALTHY', 'gpu')],
	[
		'node health NODE, its quarantine',
		async ({ name }) => linesWith(await run('node', 'health', name), 'quarantine: since'),
	],
	['node show', async ({ name }) => linesWith(await run('node', 'show', name), 'UNHEALTHY')],
	['node why, health', async ({ name }) => linesWith(await run('node', 'why', name), 'UNHEALTHY')],
	['node why, quarantine', async ({ name }) => linesWith(await run('node', 'why', name), 'xid:79')],
	['node assign', async ({ name }) => linesWith(await run('node', 'assign', name, 'acme/train'), 'quarantine')],
	['gpu list', async ({ name }) => linesWith(await run('gpu', 'list'), name, 'UNHEALTHY')],
	[
		'gpu show',
		async ({ name }) =>
			linesWith(await run('gpu', 'show', `${name}/0`), 'health: ').filter((line) => line.startsWith('health:')),
	],
	['top', async ({ name }) => linesWith(await run('top', '--once'), name, 'UNHEALTHY')],
	[
		'node health NODE --facts',
		async ({ name }) =>
			linesWith(await run('node', 'health', name, '--facts'), 'xid:79').map((line) =>
				line.replace('"simulated":false', ''),
			),
	],
	[
		'the page of the node, its GPU',
		async ({ id }) => linesWith(await page(`/metrics/nodes/${id}`), 'gpuaas_gpu_health{', 'state="UNHEALTHY"', '} 1'),
	],
	[
		'the page of the node, the node',
		async ({ id }) => linesWith(await page(`/metrics/nodes/${id}`), 'gpuaas_node_health{', 'state="UNHEALTHY"', '} 1'),
	],
	[
		'the page of the node, XIDs',
		async ({ id }) => linesWith(await page(`/metrics/nodes/${id}`), 'gpuaas_xid_events_total{', '} 1'),
	],
];

describe.each(SURFACES)('%s', (_what, ask) => {
	test('says of the drill, and of nothing real, that it is simulated', async () => {
		const [drill, real] = [await ask(drilled), await ask(broken)];
		expect(drill.length, 'the drill is there').toBeGreaterThan(0);
		for (const line of drill) expect(line).toMatch(/simulated|\bsim\b/i);
		expect(real.length, 'the real fault is there').toBeGreaterThan(0);
		for (const line of real) expect(line).not.toMatch(/simulated|\bsim\b/i);
	});
});

test('is in the audit log: who, where, which faults, until when; a refused one too', async () => {
	const client = world.api.client(HealthService, world.api.operatorKey);
	const fault = { kind: HealthFactKind.XID, code: 'xid:79', subject: { kind: HealthSubjectKind.GPU, id: GPU_0 } };
	const forbidden = { node: broken.id, faults: [fault], duration: durationFromMs(60_000), reason: 'drill' };
	expect((await refusalOf(client.injectNodeFault(forbidden))).reason).toBe('FAULT_INJECTION_FORBIDDEN');
	const records = (await world.api.audit()).filter(({ action }) => action === 'health.inject');
	expect(records.filter(({ result }) => result === 'ok')).toMatchObject([
		{ target: `nodes/${drilled.id}`, detail: { name: 'drilled', faults: 'XID xid:79', until: expect.any(String) } },
	]);
	expect(records.filter(({ result }) => result !== 'ok')).toMatchObject([{ reason: 'FAULT_INJECTION_FORBIDDEN' }]);
});

test('in the numbers of the fleet it is counted apart', async () => {
	expect(linesWith(await page('/metrics'), 'gpuaas_health_nodes_simulated ')).toContain(
		'gpuaas_health_nodes_simulated 1',
	);
});
