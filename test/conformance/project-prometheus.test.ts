import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { PrometheusServer } from './prometheus-server.ts';
import { TelemetryFleet } from './telemetry-fleet.ts';

/**
 * A tenant's own real Prometheus scrapes its project's page over the API with an API key, as docs/telemetry.md shows; the
 * fleet behind it is *simulated*.
 */
describe.skipIf(lacks('prometheus'))("a tenant's Prometheus", () => {
	let fleet: TelemetryFleet;
	let prometheus: PrometheusServer;
	let assignments: readonly string[];

	beforeAll(async () => {
		fleet = await TelemetryFleet.start(6);
		assignments = await Promise.all([0, 1, 2].map((index) => assign(index, index < 2 ? 'acme' : 'rival')));
		// What was heard before the assignments is on no page of theirs.
		fleet.say();
		const { world } = fleet;
		const keys = {
			acme: await world.addPrincipal('service_account', 'tenant.viewer', 'organizations/acme/projects/train'),
			rival: await world.addPrincipal('service_account', 'tenant.viewer', 'organizations/rival/projects/train'),
		};
		const job = (name: string, organization: 'acme' | 'rival', key: keyof typeof keys) => {
			const file = join(world.folder, `${key}.key`);
			writeFileSync(file, keys[key], { mode: 0o600 });
			return `
  - job_name: ${name}
    scheme: https
    metrics_path: /metrics/projects/${organization}/train
    authorization: { credentials_file: ${file} }
    tls_config: { ca_file: ${world.rootFile()} }
    static_configs: [{ targets: ['127.0.0.1:${world.server.address.port}'] }]`;
		};
		prometheus = await PrometheusServer.start(`
global: { scrape_interval: 1s }
scrape_configs:${job('mine', 'acme', 'acme')}${job('stranger', 'acme', 'rival')}
`);
	});
	afterAll(async () => {
		await prometheus?.[Symbol.asyncDispose]();
		await fleet?.[Symbol.asyncDispose]();
	});

	async function assign(index: number, organization: string): Promise<string> {
		const nodeId = fleet.nodes[index]?.id ?? '';
		const id = uuidv7(systemClock.now(), systemRng);
		const times = { fromMs: systemClock.now(), untilMs: null };
		const row = {
			id,
			nodeId,
			sliceId: '',
			mode: 'host',
			organization,
			project: 'train',
			generation: 1,
			...times,
		} as const;
		await fleet.world.deps.store.unit((tx) => tx.assignments.insert(row));
		return id;
	}

	/** Of so many rows, once there are. A scrape has a second: on a busy machine one may fail, which ends all rows for a while. */
	const rows = (expression: string, count: number) =>
		eventually(`${count} rows of ${expression}`, async () => {
			const found = await prometheus.query(expression);
			return found.length === count && found;
		});
	const uuids = async (count: number) => {
		const found = await rows('DCGM_FI_DEV_GPU_TEMP{job="mine"}', count);
		return found.map(({ metric }) => metric.UUID?.slice(0, 12)).sort();
	};

	test('is up, and has its own nodes and nobody else’s', async () => {
		await rows('up{job="mine"} == 1', 1);
		expect(await uuids(2)).toEqual(['GPU-00000000', 'GPU-00000001']);
		const info = await rows('gpuaas_gpu_temperature_celsius * on (uuid) group_left (model) gpuaas_gpu_info', 2);
		expect(info.map(({ metric }) => metric.model).sort()).toEqual(['NVIDIA A100-SXM4-80GB', 'NVIDIA H100 80GB HBM3']);
	});

	test('with the key of another tenant is down and has nothing', async () => {
		await rows('up{job="stranger"} == 0', 1);
		expect(await prometheus.query('{job="stranger", __name__=~"gpuaas_.*|DCGM_.*"}')).toEqual([]);
	});

	test('an assignment that ends is gone at the next scrape, not minutes later', async () => {
		await fleet.world.deps.store.unit((tx) => tx.assignments.close(assignments[1] ?? '', systemClock.now()));
		const fresh = fleet.nodes[1]?.id ?? '';
		fleet.say();
		// An instant query looks back 5 minutes: without the stale marker it would find the node for so long.
		expect(await uuids(1)).toEqual(['GPU-00000000']);
		expect(await prometheus.query(`{job="mine", node="${fresh}"}`)).toEqual([]);
		await rows('up{job="mine"} == 1', 1);
	});
});
