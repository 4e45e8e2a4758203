import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { freePort } from '../free-port.ts';
import { type Ready, UpWorld } from '../integration/up-world.ts';
import { lacks, tool } from '../tools.ts';
import { ended } from './prometheus-server.ts';

/** A real Prometheus finds our pages by our service discovery, and promtool has nothing to say about them. */
describe.skipIf(lacks('prometheus', 'promtool'))('Prometheus', () => {
	const world = new UpWorld();
	let ready: Ready;

	beforeAll(async () => {
		ready = await world.up();
	});

	afterAll(async () => {
		await world[Symbol.asyncDispose]();
	});

	async function page(path: string): Promise<string> {
		const response = await fetch(`${ready.ops}${path}`);
		expect(response.status, path).toBe(200);
		return response.text();
	}

	async function nodePath(): Promise<string> {
		const { nodes } = await world.json<{ nodes: { id: string }[] }>('node', 'list');
		return `/metrics/nodes/${nodes[0]?.id}`;
	}

	test('promtool finds no problem in the pages', async () => {
		const path = await nodePath();
		// The first sample comes within one period.
		await eventually('a first sample', async () => (await fetch(`${ready.ops}${path}`)).status === 200);
		for (const text of [await page('/metrics'), await page(path)]) {
			const checked = spawnSync(tool('promtool'), ['check', 'metrics'], { input: text, encoding: 'utf8' });
			expect(`${checked.stdout}${checked.stderr}`).toBe('');
			expect(checked.status).toBe(0);
		}
	});

	test('what the agent measured, its ring and its inventory are read through the real link', async () => {
		const { nodes } = await world.json<{ nodes: { name: string }[] }>('node', 'list');
		const name = nodes[0]?.name ?? '';
		await eventually('history of the ring', async () => {
			const answer = await world.json<{ series: { key: string; average: number[] }[]; ringFrom?: string }>(
				...['telemetry', 'query', name, 'load.1', '--part', 'host', '--since', '10m'],
			);
			return answer.ringFrom !== undefined && answer.series[0]?.key === 'load.1' && answer.series[0].average.length > 0;
		});
		const { inventory } = await eventually('an inventory', async () => {
			const answer = await world.json<{ inventory?: { digest: string; cpus: unknown[] } }>('node', 'inventory', name);
			return answer.inventory !== undefined && (answer as { inventory: { digest: string; cpus: unknown[] } });
		});
		expect(inventory.digest).toMatch(/^[0-9a-f]{64}$/);
		expect(inventory.cpus.length).toBeGreaterThan(0);
		const { stdout } = await world.run('telemetry', 'watch', name, '--fast', '--count', '2', '--json');
		const samples = stdout
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line) as { things: { part: string }[] });
		expect(samples.map(({ things }) => things.some(({ part }) => part === 'host'))).toEqual([true, true]);
	});

	test('pages and discovery name no customer', async () => {
		await world.run('org', 'create', 'acme-corp');
		await world.run('project', 'create', 'acme-corp/secret-project');
		await world.run('entitlement', 'grant', 'acme-corp', 'gpu-model/*');
		await world.run('node', 'assign', ready.node, 'acme-corp/secret-project');
		expect(await page('/metrics')).toMatch(/gpuaas_quota_used\{kind="nodes"\} 1/);
		const texts = [await page('/metrics'), await page(await nodePath()), await page('/sd/prometheus')];
		await world.run('node', 'unassign', ready.node);
		for (const text of texts) expect(text).not.toMatch(/acme-corp|secret-project/);
	});

	test('scrapes every target that the discovery names, and all of them are up', async () => {
		const port = await freePort();
		const dir = join(world.root, 'prometheus');
		mkdirSync(dir);
		const config = `
global: { scrape_interval: 1s }
scrape_configs:
  - job_name: control-plane
    static_configs: [{ targets: ['${new URL(ready.ops).host}'] }]
  - job_name: nodes
    http_sd_configs: [{ url: '${ready.ops}/sd/prometheus', refresh_interval: 1s }]
`;
		writeFileSync(join(dir, 'prometheus.yml'), config);
		const args = [
			`--config.file=${join(dir, 'prometheus.yml')}`,
			`--storage.tsdb.path=${dir}`,
			`--web.listen-address=127.0.0.1:${port}`,
		];
		const prometheus = spawn(tool('prometheus'), args, { stdio: 'ignore' });
		try {
			const query = async (expression: string) => {
				const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expression)}`);
				const { data } = (await response.json()) as {
					data: { result: { metric: Record<string, string>; value: [number, string] }[] };
				};
				return data.result;
			};
			const up = await eventually('both targets up', async () => {
				const result = await query('up');
				return result.length === 2 && result.every(({ value }) => value[1] === '1') && result;
			});
			expect(up.map(({ metric }) => metric.job).sort()).toEqual(['control-plane', 'nodes']);
			const memory = await eventually('a host metric', async () => {
				const result = await query('gpuaas_node_memory_bytes');
				return result.length === 1 && result;
			});
			expect(Number(memory[0]?.value[1])).toBeGreaterThan(1e8);
		} finally {
			await ended(prometheus);
		}
	});
});
