import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPost } from '../../control-plane/adapters/export/post.ts';
import { PushQueue } from '../../control-plane/adapters/export/push-queue.ts';
import { Pusher } from '../../control-plane/adapters/export/pusher.ts';
import { REMOTE_WRITE_HEADERS, RemoteWriteEncoder } from '../../control-plane/adapters/export/remote-write.ts';
import { Sender } from '../../control-plane/adapters/export/sender.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { eventually } from '../eventually.ts';
import { lacks, tool } from '../tools.ts';
import { PrometheusServer } from './prometheus-server.ts';
import { TelemetryFleet } from './telemetry-fleet.ts';

const NODES = 1000;

/**
 * A real Prometheus scrapes a *simulated* fleet by our discovery, is pushed to by our remote write, and answers the
 * queries of NVIDIA's dashboard (Grafana 12239) as if a dcgm-exporter ran on each host.
 */
describe.skipIf(lacks('prometheus', 'promtool'))('a fleet in Prometheus', () => {
	let fleet: TelemetryFleet;
	let prometheus: PrometheusServer;

	beforeAll(async () => {
		fleet = await TelemetryFleet.start(NODES);
		prometheus = await PrometheusServer.start(`
global: { scrape_interval: 5s }
scrape_configs:
  - job_name: gpus
    http_sd_configs: [{ url: '${fleet.url}/sd/prometheus?names=dcgm', refresh_interval: 60s }]
`);
	});
	afterAll(async () => {
		await prometheus?.[Symbol.asyncDispose]();
		await fleet?.[Symbol.asyncDispose]();
	});

	test('every target that the discovery names is up', async () => {
		await eventually('all are up', async () => {
			const [up] = await prometheus.query('count(up == 1)');
			return Number(up?.value[1]) === NODES;
		});
	});

	const SELECT = '{instance=~"gpu-.*", gpu=~"0|1"}';
	test.each([
		[`DCGM_FI_DEV_GPU_TEMP${SELECT}`, ['H100', 'A100', 'H100 MIG'], 51],
		[`DCGM_FI_DEV_POWER_USAGE${SELECT}`, ['H100', 'A100', 'H100 MIG'], 431.5],
		[`DCGM_FI_DEV_SM_CLOCK${SELECT} * 1000000`, ['H100', 'A100', 'H100 MIG'], 1.41e9],
		[`DCGM_FI_DEV_GPU_UTIL${SELECT}`, ['H100', 'A100'], 55],
		[`DCGM_FI_DEV_FB_USED${SELECT}`, ['H100', 'A100', 'H100 MIG'], 40_000],
		[`DCGM_FI_PROF_PIPE_TENSOR_ACTIVE${SELECT}`, ['H100', 'H100 MIG'], 0.55],
	] as const)('%s has rows of every node whose GPU has it, and of no other', async (expression, models, about) => {
		const wanted = fleet.named(...models).sort();
		const rows = await eventually(`rows of ${wanted.length} nodes`, async () => {
			const found = await prometheus.query(expression);
			return new Set(found.map(({ metric }) => metric.instance)).size === wanted.length && found;
		});
		expect([...new Set(rows.map(({ metric }) => metric.instance))].sort()).toEqual(wanted);
		for (const { value } of rows) {
			expect(Number(value[1]), expression).toBeGreaterThan(about * 0.9);
			expect(Number(value[1]), expression).toBeLessThan(about * 1.5);
		}
	});

	test('the variables of the dashboard list nodes and GPUs', async () => {
		// A scrape of a busy machine may fail now and then.
		await eventually('all nodes at once', async () => {
			const instances = await prometheus.query('count by (instance) (DCGM_FI_DEV_GPU_TEMP)');
			return instances.length === NODES;
		});
		expect((await prometheus.query('sum(DCGM_FI_DEV_POWER_USAGE)'))[0]?.value[1]).toBeDefined();
		expect((await prometheus.query('avg(DCGM_FI_DEV_GPU_TEMP)'))[0]?.value[1]).toBeDefined();
	});

	test('promtool finds no problem in our own names, and can read NVIDIA’s', async () => {
		for (const node of fleet.nodes.slice(0, 3)) {
			const page = async (names: string) =>
				(await fetch(`${fleet.url}/metrics/nodes/${node.id}?names=${names}`)).text();
			const check = (input: string) => spawnSync(tool('promtool'), ['check', 'metrics'], { input, encoding: 'utf8' });
			const own = check(await page('gpuaas'));
			expect(`${own.stdout}${own.stderr}`).toBe('');
			// Its style is NVIDIA's: promtool says so with 3, and with 1 if it couldn't parse.
			expect([0, 3]).toContain(check(await page('dcgm')).status);
		}
		const fleetPage = await (await fetch(`${fleet.url}/metrics`)).text();
		const checked = spawnSync(tool('promtool'), ['check', 'metrics'], { input: fleetPage, encoding: 'utf8' });
		expect(`${checked.stdout}${checked.stderr}`).toBe('');
	});

	test('labels are those of dcgm-exporter, in its order', async () => {
		const page = await (await fetch(`${fleet.url}/metrics/nodes/${fleet.nodes[2]?.id}?names=dcgm`)).text();
		expect(page).toContain(
			'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-00000002-0000-4000-8000-000000000000",pci_bus_id="00000000:1B:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="gpu-2",DCGM_FI_DRIVER_VERSION="570.86.15",simulated="true"} ',
		);
		expect(page).toMatch(
			/^DCGM_FI_PROF_GR_ENGINE_ACTIVE\{gpu="0",UUID="GPU-[^"]+",pci_bus_id="[^"]+",device="nvidia0",modelName="[^"]+",GPU_I_PROFILE="3g.40gb",GPU_I_ID="1",Hostname="gpu-2",/m,
		);
		expect(page).toMatch(/DCGM_FI_DEV_XID_ERRORS\{.*err_code="0",err_msg="No Error"\} 0\n/);
	});

	test('a node that falls silent has no values any more, rather than old ones', async () => {
		const node = fleet.nodes[7];
		fleet.silent.add(node?.id ?? '');
		await eventually('its target is down and its series are gone', async () => {
			const up = await prometheus.query(`up{instance="${node?.name}"}`);
			const rows = await prometheus.query(`DCGM_FI_DEV_GPU_TEMP{instance="${node?.name}"}`);
			return up[0]?.value[1] === '0' && rows.length === 0;
		});
		fleet.silent.clear();
	});

	test('remote write brings the same series, survives an outage of the receiver, and ends what is gone', async () => {
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-rw-'));
		const { telemetry } = fleet.world.deps;
		const { directory, xids } = telemetry;
		await using queue = await PushQueue.open({ folder });
		const receiver = createPost({ url: new URL(`${prometheus.url}/api/v1/write`), headers: REMOTE_WRITE_HEADERS });
		let isAway = true;
		const sender = new Sender({
			...{ clock: systemClock, rng: systemRng, log: silentLogger, name: 'remote-write', queue },
			post: (body, signal) => (isAway ? Promise.reject(new Error('away')) : receiver(body, signal)),
		});
		const stop = new AbortController();
		const running = sender.run(stop.signal);
		const series = { names: new Set(['gpuaas', 'dcgm'] as const), hostnameLabel: 'Hostname' as const };
		const deps = { clock: systemClock, log: silentLogger, directory, queue, xids, onQueued: sender.wake };
		const pusher = new Pusher({ ...deps, encoder: new RemoteWriteEncoder(), series });
		const pushed = new Set(fleet.nodes.slice(10, 20).map(({ id }) => id));
		const unlisten = telemetry.ingest.listen({
			onSample: (sample) => pushed.has(sample.nodeId) && pusher.onSample(sample),
			onSilence: (nodeId) => pushed.has(nodeId) && pusher.onSilence(nodeId),
		});
		try {
			fleet.say();
			await eventually('requests wait on disk', () => queue.records > 0 && sender.counts.retried > 0);
			isAway = false;
			const rows = await eventually('all came', async () => {
				const found = await prometheus.query('{job="gpuaas", __name__="DCGM_FI_DEV_GPU_TEMP"}');
				return found.length === pushed.size && found;
			});
			const scraped = await eventually('the same series, scraped', async () => {
				const found = await prometheus.query('DCGM_FI_DEV_GPU_TEMP{job="gpus", instance="gpu-10"}');
				return found.length === 1 && found;
			});
			const mine = rows.find(({ metric }) => metric.instance === 'gpu-10');
			expect({ ...mine?.metric, job: 'gpus' }).toEqual(scraped[0]?.metric);
			await eventually('ours, too', async () => {
				const own = await prometheus.query('gpuaas_gpu_temperature_celsius{job="gpuaas"}');
				return own.length === pushed.size;
			});
			const gone = fleet.nodes[10];
			fleet.silent.add(gone?.id ?? '');
			const last = telemetry.latest.get(gone?.id ?? '');
			if (last !== undefined) pusher.onSilence(last.nodeId);
			await eventually('its series have ended', async () => {
				const left = await prometheus.query(`{job="gpuaas", instance="${gone?.name}"}`);
				return left.length === 0;
			});
			expect(sender.counts.refused).toBe(0);
		} finally {
			unlisten();
			stop.abort();
			await running;
			await pusher[Symbol.asyncDispose]();
			rmSync(folder, { recursive: true, force: true });
		}
	});
});
