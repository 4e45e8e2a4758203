import { get } from 'node:http';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LatestTelemetry } from '../../control-plane/app/telemetry/latest.ts';
import { isLoopback, type OpsAccess } from '../../control-plane/ops/access.ts';
import { OpsServer } from '../../control-plane/ops/server.ts';
import { Registry } from '../../kit/exposition.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TelemetryFrameSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HOST_SCHEMA } from '../../proto/telemetry-schema.ts';
import { ApiWorld } from './api-world.ts';

let world: ApiWorld;
let ops: OpsServer;
const clock = new VirtualClock();
const telemetry = new LatestTelemetry({ clock });
beforeAll(async () => {
	world = await ApiWorld.start();
	const { deps, registry } = world;
	ops = await OpsServer.listen({ deps, registry, telemetry, listen: { host: '127.0.0.1', port: 0 } });
});
afterAll(async () => {
	await ops[Symbol.asyncDispose]();
	await world[Symbol.asyncDispose]();
});

function page(path: string, init: RequestInit = {}, at = ops): Promise<Response> {
	return fetch(`http://127.0.0.1:${at.address.port}${path}`, init);
}

function frame(values: number[], schema = 1) {
	return create(TelemetryFrameSchema, { schema, at: timestampFromMs(0), values, dropped: 3n });
}

describe('pages', () => {
	test('it lives, and it is ready', async () => {
		expect(await (await page('/healthz')).text()).toBe('ok\n');
		const ready = await page('/readyz');
		expect(ready.status).toBe(200);
		expect(await ready.json()).toMatchObject({ ready: true });
	});

	test('not ready, with the check that failed, while audit heads are not signed', async () => {
		world.heads.stopped = new Error('signing is stopped');
		try {
			const answer = await page('/readyz');
			expect(answer.status).toBe(503);
			expect(JSON.stringify(await answer.json())).toContain('{"name":"audit","ok":false,"message":"signing is stopped');
			expect((await page('/healthz')).status).toBe(200);
		} finally {
			world.heads.stopped = undefined;
		}
	});

	test('metrics hold the build, the process, the fleet and the API, by method and code', async () => {
		await world.addNode();
		await world.client(SystemService).getVersion({});
		const text = await (await page('/metrics')).text();
		for (const line of [
			'gpuaas_build_info{version="0.1.0+test",replica="replica-1"} 1',
			'gpuaas_ready{check="store"} 1',
			'gpuaas_nodes 1',
			'gpuaas_tasks{state="queued"} 0',
			'gpuaas_sessions 0',
			'gpuaas_api_requests_total{method="gpuaas.system.v1.SystemService/GetVersion",code="OK"} 1',
			'gpuaas_api_request_seconds_count{method="gpuaas.system.v1.SystemService/GetVersion"} 1',
		])
			expect(text).toContain(`${line}\n`);
		expect(text).toMatch(/^process_resident_memory_bytes [1-9]\d+$/m);
		expect(text).toMatch(/^gpuaas_store_check_seconds \d/m);
		const open = await page('/metrics', { headers: { accept: 'application/openmetrics-text; version=1.0.0' } });
		expect(await open.text()).toMatch(/# EOF\n$/);
	});

	test('a node’s page shows what its newest sample had, and 503 once that is old', async () => {
		const node = await world.addNode();
		expect((await page(`/metrics/nodes/${node.id}`)).status).toBe(404);
		telemetry.ingest(
			node.id,
			frame(HOST_SCHEMA.map((_, index) => (index === 1 ? Number.NaN : index === 2 ? -5 : index))),
		);
		const fresh = await page(`/metrics/nodes/${node.id}`);
		const text = await fresh.text();
		expect(text).toContain(`gpuaas_node_cpu_seconds_total{node="${node.id}",mode="user"} 0\n`);
		// Absent and absurd values have no series.
		expect(text).not.toContain('mode="nice"');
		expect(text).not.toContain('mode="system"');
		expect(text).toContain(`gpuaas_node_telemetry_dropped_total{node="${node.id}"} 3\n`);
		expect(text.match(/# TYPE gpuaas_node_cpu_seconds_total counter/g)).toHaveLength(1);
		clock.advance(46_000);
		const old = await page(`/metrics/nodes/${node.id}`);
		expect(old.status).toBe(503);
		expect(await old.text()).not.toContain('gpuaas_node_cpu');
	});

	test('a frame of no known schema, or of another length, changes nothing', async () => {
		const node = await world.addNode();
		telemetry.ingest(node.id, frame([1, 2, 3]));
		telemetry.ingest(
			node.id,
			frame(
				HOST_SCHEMA.map(() => 1),
				7,
			),
		);
		expect(telemetry.get(node.id)).toBeUndefined();
		expect(telemetry.refused).toBe(2);
	});

	test('service discovery has one target a node, silent ones too, and no name of a customer', async () => {
		const node = await world.addNode({ labels: { customer: 'acme' } });
		const targets = (await (await page('/sd/prometheus')).json()) as {
			targets: string[];
			labels: Record<string, string>;
		}[];
		const mine = targets.find(({ labels }) => labels.node === node.id);
		expect(mine).toEqual({
			targets: [`127.0.0.1:${ops.address.port}`],
			labels: { __metrics_path__: `/metrics/nodes/${node.id}`, instance: node.id, node: node.id },
		});
		expect(JSON.stringify(targets)).not.toContain('acme');
	});

	test('other methods and pages are refused', async () => {
		expect((await page('/metrics', { method: 'POST' })).status).toBe(405);
		expect((await page('/secrets')).status).toBe(404);
		expect((await page('/metrics/nodes/..%2f..')).status).toBe(404);
	});
});

describe('access', () => {
	const listen = (host: string, access: OpsAccess) => {
		const { deps } = world;
		// A registry takes each family once, and these never serve a page.
		return OpsServer.listen({ deps, registry: new Registry(), telemetry, listen: { host, port: 0 }, access });
	};

	test('what is open to a network needs TLS and a bearer token or client certificates', async () => {
		for (const access of [{}, { bearerToken: 'a-long-enough-token' }, { tls: { chainPem: '', keyPem: '' } }])
			await expect(listen('0.0.0.0', access)).rejects.toMatchObject({ reason: 'CONFIG_INVALID' });
		await expect(listen('127.0.0.1', { bearerToken: 'short' })).rejects.toMatchObject({ reason: 'CONFIG_INVALID' });
		expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost'].every(isLoopback)).toBe(true);
		expect(['0.0.0.0', '::', '10.0.0.1', 'localhost.evil', '127.evil'].some(isLoopback)).toBe(false);
	});

	test('a web page whose name was pointed at loopback is refused', async () => {
		const status = await new Promise((resolve, reject) => {
			const headers = { host: 'evil.example' };
			get({ host: '127.0.0.1', port: ops.address.port, path: '/metrics', headers }, (answer) => {
				answer.resume();
				resolve(answer.statusCode);
			}).on('error', reject);
		});
		expect(status).toBe(403);
	});

	test('a bearer token is asked for where there is one', async () => {
		await using guarded = await listen('127.0.0.1', { bearerToken: 'a-long-enough-token' });
		expect((await page('/healthz', {}, guarded)).status).toBe(401);
		expect((await page('/healthz', { headers: { authorization: 'Bearer a-long-enough-tokex' } }, guarded)).status).toBe(
			401,
		);
		expect((await page('/healthz', { headers: { authorization: 'Bearer a-long-enough-token' } }, guarded)).status).toBe(
			200,
		);
	});
});
