import { get } from 'node:http';
import { get as getTls } from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { gunzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import type { RunningAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import type { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { isLoopback, type OpsAccess } from '../../control-plane/ops/access.ts';
import { type OpsLimits, OpsServer } from '../../control-plane/ops/server.ts';
import { systemClock } from '../../kit/clock.ts';
import { Registry } from '../../kit/exposition.ts';
import { freePacker } from '../../kit/gzip.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import {
	HealthFactKind,
	HealthFactSchema,
	HealthSubjectKind,
	InventorySchema,
	TelemetryFrameSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HOST_VALUES_1 } from '../../proto/telemetry-schema/host.ts';
import { eventually } from '../eventually.ts';
import { idleMonitor } from '../health-monitor.ts';
import { ApiWorld } from './api-world.ts';

let world: ApiWorld;
let ops: OpsServer;
const clock = new VirtualClock();
let telemetry: Telemetry;
beforeAll(async () => {
	world = await ApiWorld.start({ telemetryClock: clock });
	const { deps, registry } = world;
	telemetry = deps.telemetry;
	const health = idleMonitor(deps);
	ops = await OpsServer.listen({ deps, registry, telemetry, health, listen: { host: '127.0.0.1', port: 0 } });
});
afterAll(async () => {
	await ops[Symbol.asyncDispose]();
	await world[Symbol.asyncDispose]();
});

function page(path: string, init: RequestInit = {}, at = ops): Promise<Response> {
	return fetch(`http://127.0.0.1:${at.address.port}${path}`, init);
}

function frame(values: number[], schema = 1) {
	return create(TelemetryFrameSchema, { schema, at: timestampFromMs(clock.now()), values, dropped: 3n });
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

	/** Each breaks one thing of the world, and answers how it is put back. */
	const BROKEN: Readonly<Record<string, { readonly says: RegExp; readonly break: () => () => void }>> = {
		store: {
			says: /disk I\/O error; look at its disk/,
			break: () => {
				const { store } = world.deps;
				const own = store.check;
				store.check = () => Promise.reject(new Error('disk I/O error'));
				return () => {
					store.check = own;
				};
			},
		},
		ca: {
			says: /its own certificates would not be accepted; look at the key files/,
			break: () => {
				const { authority } = world.deps;
				const own = authority.acceptedNodeIssuers;
				authority.acceptedNodeIssuers = () => new Set();
				return () => {
					authority.acceptedNodeIssuers = own;
				};
			},
		},
		isolation: {
			says: /row security is off; let an administrator of the database undo it/,
			break: () => {
				const { store } = world.deps;
				const own = store.checkIsolation;
				store.checkIsolation = () => Promise.reject(new Error('row security is off'));
				return () => {
					store.checkIsolation = own;
				};
			},
		},
		disk: {
			says: /it is below its floor; free space where output is kept/,
			break: () => {
				const { output } = world.deps;
				const own = output.check;
				output.check = () => Promise.reject(new Error('it is below its floor'));
				return () => {
					output.check = own;
				};
			},
		},
		clock: {
			says: /it is \d+ ms off the store's; repair time synchronisation/,
			break: () => {
				const { store } = world.deps;
				const own = store.now;
				store.now = async () => (await own.call(store)) + 6000;
				return () => {
					store.now = own;
				};
			},
		},
	};
	test.each(Object.entries(BROKEN))('not ready, with the check that failed: %s', async (name, broken) => {
		const repair = broken.break();
		try {
			const answer = await page('/readyz');
			expect(answer.status).toBe(503);
			const { ready, checks } = (await answer.json()) as { ready: boolean; checks: { name: string; ok: boolean }[] };
			expect(ready).toBe(false);
			expect(checks.filter(({ ok }) => !ok)).toEqual([
				{ name, ok: false, message: expect.stringMatching(broken.says) },
			]);
			expect((await page('/healthz')).status).toBe(200);
			expect(await (await page('/metrics')).text()).toContain(`gpuaas_ready{check="${name}"} 0\n`);
		} finally {
			repair();
		}
		expect((await page('/readyz')).status).toBe(200);
	});

	test('ready, and says what is to be seen to, while another user may take on the roles of row security', async () => {
		const own = world.deps.store.checkIsolation;
		world.deps.store.checkIsolation = () => Promise.resolve('other may take on the roles');
		try {
			const answer = await page('/readyz');
			expect(answer.status).toBe(200);
			expect(JSON.stringify(await answer.json())).toContain(
				'"ok":true,"message":"tenants are kept apart; but other may',
			);
			const text = await (await page('/metrics')).text();
			expect(text).toContain('gpuaas_to_see_to{check="isolation"} 1\n');
			expect(text).toContain('gpuaas_to_see_to{check="store"} 0\n');
		} finally {
			world.deps.store.checkIsolation = own;
		}
	});

	describe('the end of the certificate authority', () => {
		const DAY_MS = 86_400_000;
		const at = async (leftMs: { readonly node?: number; readonly replica?: number }) => {
			const { authority, clock } = world.deps;
			const own = authority.issuersEndMs;
			const { node = 90 * DAY_MS, replica = 90 * DAY_MS } = leftMs;
			authority.issuersEndMs = () => ({ node: clock.now() + node, replica: clock.now() + replica });
			try {
				const answer = await page('/readyz');
				const { checks } = (await answer.json()) as { checks: { name: string; message: string; toSeeTo?: string }[] };
				return { status: answer.status, ca: checks.find(({ name }) => name === 'ca') };
			} finally {
				authority.issuersEndMs = own;
			}
		};

		test('is no news while it is more than 20 days off', async () => {
			expect(await at({ node: 20.1 * DAY_MS })).toEqual({
				status: 200,
				ca: { name: 'ca', ok: true, message: 'it issues' },
			});
		});

		test.each(['node', 'replica'] as const)(
			'is to be seen to within 20 days of that of the %s CA; ready',
			async (ca) => {
				const { status, ca: found } = await at({ [ca]: 19.9 * DAY_MS });
				expect(status).toBe(200);
				expect(found?.message).toContain(`it issues; but the ${ca} CA ends in 19 days`);
				expect(found?.toSeeTo).toContain('gpuaas ca rotate prepare');
			},
		);

		test.each(['node', 'replica'] as const)('is not ready once the %s CA issues nothing any more', async (ca) => {
			const { status, ca: found } = await at({ [ca]: 0 });
			expect(status).toBe(503);
			expect(found?.message).toMatch(new RegExp(`^the ${ca} CA ended at .*gpuaas ca renew`));
		});

		test('is on the page of metrics', async () => {
			const text = await (await page('/metrics')).text();
			for (const ca of ['node', 'replica']) {
				const [, left] = new RegExp(`^gpuaas_ca_remaining_seconds\\{ca="${ca}"\\} (.+)$`, 'm').exec(text) ?? [];
				expect(Math.round(Number(left) / 86_400)).toBe(90);
			}
		});
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
		telemetry.ingest.ingest(
			node.id,
			frame(HOST_VALUES_1.map((_, index) => (index === 1 ? Number.NaN : index === 2 ? -5 : index))),
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

	test('XIDs are counted by GPU, each GPU from 0 on, so that the first one is an increase', async () => {
		const node = await world.addNode();
		const [gpu] = fixtureInventory({ gpus: 1 }).gpus;
		const inventory = toBinary(InventorySchema, fixtureInventory({ gpus: 1 }));
		await world.deps.store.unit((tx) =>
			tx.inventories.put({ nodeId: node.id, custody: 'platform', digest: 'd', inventory, receivedAtMs: 1 }),
		);
		world.deps.bus.publish({ topic: 'nodes.inventory', key: node.id });
		await eventually('its inventory is known', () => {
			clock.advance(20);
			return telemetry.directory.get(node.id)?.identities !== undefined;
		});
		telemetry.ingest.ingest(node.id, frame(HOST_VALUES_1.map(() => 1)));
		const series = `gpuaas_xid_events_total{node="${node.id}",gpu="0",uuid="${gpu?.uuid}"}`;
		const text = async () => (await page(`/metrics/nodes/${node.id}`)).text();
		expect(await text()).toContain(`${series} 0\n`);
		const subject = { kind: HealthSubjectKind.GPU, id: gpu?.uuid ?? '' };
		const fact = create(HealthFactSchema, { kind: HealthFactKind.XID, subject, code: 'xid:79', count: 2 });
		telemetry.xids.count(node.id, [fact]);
		expect(await text()).toContain(`${series} 2\n`);
	});

	test('a frame of no known schema, or of another length, changes nothing', async () => {
		const node = await world.addNode();
		telemetry.ingest.ingest(node.id, frame([1, 2, 3]));
		telemetry.ingest.ingest(
			node.id,
			frame(
				HOST_VALUES_1.map(() => 1),
				7,
			),
		);
		expect(telemetry.latest.get(node.id)).toBeUndefined();
		expect([...telemetry.ingest.refused].sort()).toEqual([
			['frame/schema_unknown', 1],
			['frame/values_length', 1],
			['value/absurd', 1],
		]);
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
			labels: { __metrics_path__: `/metrics/nodes/${node.id}`, instance: node.name, node: node.id },
		});
		expect(JSON.stringify(targets)).not.toContain('acme');
	});

	test('labels of nodes are shown where the configuration names them, and no others', async () => {
		const { deps } = world;
		const node = await world.addNode({ labels: { 'gpuaas/rack': 'r7', customer: 'acme' } });
		const silent = await world.addNode();
		await using labelled = await OpsServer.listen({
			...{ deps, registry: new Registry(), telemetry, health: idleMonitor(deps) },
			listen: { host: '127.0.0.1', port: 0 },
			nodeLabels: ['gpuaas/rack', 'zone'],
		});
		const targets = (await (await page('/sd/prometheus', {}, labelled)).json()) as { labels: Record<string, string> }[];
		const labelsOf = (id: string) => targets.find(({ labels }) => labels.node === id)?.labels;
		const own = { __metrics_path__: `/metrics/nodes/${node.id}`, instance: node.name, node: node.id };
		// As Prometheus allows it in a name.
		expect(labelsOf(node.id)).toEqual({ ...own, gpuaas_rack: 'r7' });
		expect(Object.keys(labelsOf(silent.id) ?? {})).toEqual(Object.keys(own));
	});

	test('shards of the discovery are disjoint and whole, stay the same, and nonsense is refused', async () => {
		for (let count = 0; count < 20; count += 1) await world.addNode();
		const ids = async (query: string) =>
			((await (await page(`/sd/prometheus${query}`)).json()) as { labels: Record<string, string> }[])
				.map(({ labels }) => labels.node)
				.sort();
		const shards = [await ids('?shard=0&of=3'), await ids('?shard=1&of=3'), await ids('?shard=2&of=3')];
		expect(shards.flat().sort()).toEqual(await ids(''));
		expect(shards.every((shard) => shard.length > 0)).toBe(true);
		expect(await ids('?shard=1&of=3')).toEqual(shards[1]);
		for (const query of [
			'?shard=3&of=3',
			'?shard=-1&of=3',
			'?shard=0',
			'?of=2',
			'?shard=0&of=0',
			'?shard=0&of=9999',
			'?names=x',
		])
			expect((await page(`/sd/prometheus${query}`)).status, query).toBe(400);
	});

	test('pages are packed for whoever asks, as Prometheus does, and plain for others', async () => {
		const ask = (headers: Record<string, string>) =>
			new Promise<{ readonly encoding: unknown; readonly bytes: Buffer }>((resolve, reject) => {
				get({ host: '127.0.0.1', port: ops.address.port, path: '/metrics', headers }, (answer) => {
					const parts: Buffer[] = [];
					answer.on('data', (part: Buffer) => parts.push(part));
					answer.on('end', () =>
						resolve({ encoding: answer.headers['content-encoding'], bytes: Buffer.concat(parts) }),
					);
				}).on('error', reject);
			});
		const packed = await ask({ 'accept-encoding': 'gzip' });
		expect(packed.encoding).toBe('gzip');
		expect(gunzipSync(packed.bytes).toString()).toMatch(/^gpuaas_nodes \d+$/m);
		const plain = await ask({});
		expect(plain.encoding).toBeUndefined();
		expect(plain.bytes.toString()).toMatch(/^gpuaas_nodes \d+$/m);
		expect(packed.bytes.length).toBeLessThan(plain.bytes.length / 2);
	});

	test('the page of a node is made once it can be packed, so that hundreds at once don’t wait in memory', async () => {
		const { id } = await world.addNode();
		const say = (load: number) => telemetry.ingest.ingest(id, frame(HOST_VALUES_1.map(() => load)));
		const busy = await Promise.all([freePacker(), freePacker(), freePacker(), freePacker()]);
		say(0.25);
		const answer = page(`/metrics/nodes/${id}`, { headers: { 'accept-encoding': 'gzip' } });
		// Whoever doesn't want it packed waits for nobody: by then the other request has come too.
		const plain = await page(`/metrics/nodes/${id}`, { headers: { 'accept-encoding': 'identity' } });
		expect(await plain.text()).toMatch(/^gpuaas_node_load1\{.*\} 0.25$/m);
		expect((await page('/healthz')).status).toBe(200);
		say(0.75);
		for (const packer of busy) packer[Symbol.dispose]();
		const packed = await answer;
		expect(packed.headers.get('content-encoding')).toBe('gzip');
		expect(await packed.text()).toMatch(/^gpuaas_node_load1\{.*\} 0.75$/m);
	});

	test('other methods and pages are refused', async () => {
		expect((await page('/metrics', { method: 'POST' })).status).toBe(405);
		expect((await page('/secrets')).status).toBe(404);
		expect((await page('/metrics/nodes/..%2f..')).status).toBe(404);
	});
});

describe('limits', () => {
	const LIMITS = { handshakeTimeoutMs: 1000, requestTimeoutMs: 1000, silentTimeoutMs: 2000 };
	const listen = (access: OpsAccess = {}, limits: Partial<OpsLimits> = LIMITS) => {
		const { deps } = world;
		const registry = new Registry();
		// More than the kernel's buffers take for whoever doesn't read.
		registry.gauge({ name: 'gpuaas_large', help: 'x'.repeat(8 << 20) });
		const at = { host: '127.0.0.1', port: 0 };
		return OpsServer.listen({ deps, registry, telemetry, health: idleMonitor(deps), listen: at, access, limits });
	};
	const dial = (at: OpsServer): Socket => {
		const socket = connect(at.address.port, '127.0.0.1');
		socket.on('error', () => {});
		return socket;
	};
	const closed = (socket: Socket) => new Promise<void>((resolve) => void socket.once('close', () => resolve()));
	/** A byte now and then, for ever. */
	const drip = (socket: Socket) => {
		if (!socket.destroyed) socket.write('a', () => systemClock.setTimer(() => drip(socket), 20));
	};

	test('slow-loris: silence, headers and bodies that never end, cost the connection', async () => {
		await using guarded = await listen();
		const openings = [
			'',
			'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-',
			'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n',
			'POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n',
		];
		await Promise.all(
			openings.map(async (opening) => {
				const socket = dial(guarded).resume();
				socket.write(opening);
				if (opening !== '') drip(socket);
				await closed(socket);
			}),
		);
		expect((await page('/healthz', {}, guarded)).status).toBe(200);
	});

	test('whoever does not read what they asked for is cut', async () => {
		await using guarded = await listen({}, { ...LIMITS, requestTimeoutMs: 600_000 });
		const socket = dial(guarded);
		socket.write('GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
		await eventually('it is served', async () => (await guarded.connections()) === 1);
		await eventually('it is cut', async () => (await guarded.connections()) === 0);
		socket.destroy();
		expect((await page('/healthz', {}, guarded)).status).toBe(200);
	});

	test('whoever takes what they asked for drop by drop is cut, too', async () => {
		const patient = { requestTimeoutMs: 600_000, silentTimeoutMs: 600_000, answerTimeoutMs: 300 };
		await using guarded = await listen({}, patient);
		const socket = dial(guarded);
		let takenBytes = 0;
		socket.on('readable', () => {
			takenBytes += (socket.read(1) as Buffer | null)?.length ?? 0;
		});
		socket.write('GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
		await eventually('it is served', async () => takenBytes > 0);
		// Now and then a piece of some size, so that the other end is never silent.
		const sip = () => {
			takenBytes += (socket.read(256 * 1024) as Buffer | null)?.length ?? 0;
			if (!socket.destroyed) systemClock.setTimer(sip, 50);
		};
		sip();
		await eventually('it is cut', async () => (await guarded.connections()) === 0);
		socket.destroy();
		expect(takenBytes).toBeLessThan(8 << 20);
	});

	test('connections above their number and headers above their size are turned away', async () => {
		await using guarded = await listen({}, { connectionsMax: 2, headerBytesMax: 1024 });
		const request = (more: string) => `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n${more}\r\n`;
		const [first, second] = [dial(guarded), dial(guarded)];
		await eventually('two are open', async () => (await guarded.connections()) === 2);
		await closed(dial(guarded).resume());
		const said: string[] = [];
		first.on('data', (bytes: Buffer) => said.push(bytes.toString()));
		first.write(request(`X: ${'x'.repeat(2000)}\r\n`));
		await closed(first);
		expect(said.join('')).toMatch(/^HTTP\/1\.1 431 /);
		second.destroy();
		await eventually('none is left', async () => (await guarded.connections()) === 0);
		expect((await page('/healthz', {}, guarded)).status).toBe(200);
	});

	test('a TLS handshake has its time, too', async () => {
		const { chainPem, keyPem } = world.tls;
		await using guarded = await listen({ tls: { chainPem, keyPem }, bearerToken: 'a-long-enough-token' });
		await closed(dial(guarded).resume());
	});
});

describe('its certificate', () => {
	test('is the one that the other listeners have, also after that was renewed', async () => {
		const { deps, tls: old } = world;
		const names = { replicaId: 'replica-1', dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] };
		const renewed = await issueReplicaCertificate(deps, deps.authority as RunningAuthority, names);
		await using guarded = await OpsServer.listen({
			...{ deps, registry: new Registry(), telemetry, health: idleMonitor(deps) },
			listen: { host: '127.0.0.1', port: 0 },
			access: { tls: { chainPem: old.chainPem, keyPem: old.keyPem }, bearerToken: 'a-long-enough-token' },
		});
		const presented = () =>
			new Promise<string>((resolve, reject) => {
				const { port } = guarded.address;
				const socket = connectTls({ host: '127.0.0.1', port, servername: 'localhost', ca: world.rootPem }, () => {
					resolve(socket.getPeerCertificate().serialNumber.toLowerCase());
					socket.destroy();
				});
				socket.once('error', reject);
			});
		const before = await presented();
		guarded.updateTls(renewed);
		expect(await presented()).toBe(renewed.serial);
		expect(before).not.toBe(renewed.serial);
	});
});

describe('access', () => {
	const listen = (host: string, access: OpsAccess) => {
		const { deps } = world;
		// A registry takes each family once, and these never serve a page.
		const health = idleMonitor(deps);
		return OpsServer.listen({ deps, registry: new Registry(), telemetry, health, listen: { host, port: 0 }, access });
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

	test('a client certificate is asked for where there is a CA of clients, and speaks for its holder', async () => {
		const { chainPem, keyPem } = world.tls;
		await using guarded = await listen('127.0.0.1', { tls: { chainPem, keyPem, clientCaPem: world.rootPem } });
		const status = (client: object) =>
			new Promise<number | undefined>((resolve, reject) => {
				const at = { host: '127.0.0.1', port: guarded.address.port, path: '/healthz' };
				const asked = getTls({ ...at, ca: world.rootPem, checkServerIdentity: () => undefined, ...client });
				asked.once('response', (answer) => {
					answer.resume();
					resolve(answer.statusCode);
				});
				asked.once('error', reject);
			});
		await expect(status({})).rejects.toThrow();
		expect(await status({ cert: chainPem, key: keyPem })).toBe(200);
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
