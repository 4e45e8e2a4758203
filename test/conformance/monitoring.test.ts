import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { familiesOf } from '../../control-plane/app/telemetry/families.ts';
import { infoFamilies } from '../../control-plane/ops/node-info.ts';
import { present } from '../../kit/assert.ts';
import { SCHEMA_NUMBER } from '../../proto/telemetry-schema/schemas.ts';
import { lacks, tool } from '../tools.ts';
import { TelemetryFleet } from './telemetry-fleet.ts';

const FOLDER = join(import.meta.dirname, '../../packaging/monitoring');
const DASHBOARDS = readdirSync(join(FOLDER, 'dashboards'));

interface Dashboard {
	readonly uid: string;
	readonly title: string;
	readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
	readonly panels: readonly {
		readonly title: string;
		readonly gridPos: { readonly x: number; readonly w: number };
		readonly targets: readonly { readonly expr: string }[];
	}[];
}

const dashboards = new Map(
	DASHBOARDS.map((file) => [file, JSON.parse(readFileSync(join(FOLDER, 'dashboards', file), 'utf8')) as Dashboard]),
);
/** Of Prometheus itself. */
const BUILT_IN = ['up'];
const METRIC = /\b(?:gpuaas[_:][a-z0-9_:]+|DCGM_FI_[A-Z0-9_]+|process_[a-z_]+)\b/g;

/** What ships for monitoring is right about what we export: nothing queries a metric that isn't there. */
describe.skipIf(lacks('promtool'))('packaging/monitoring', () => {
	const exported = new Set(BUILT_IN);
	let fleet: TelemetryFleet;
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-monitoring-'));

	beforeAll(async () => {
		fleet = await TelemetryFleet.start(1);
		for (const { name } of familiesOf(SCHEMA_NUMBER)) exported.add(name);
		const { telemetry } = fleet.world.deps;
		const node = fleet.nodes[0]?.id ?? '';
		const sample = present(telemetry.latest.get(node), 'a sample');
		const options = { namesCustomers: false, xids: telemetry.xids, health: fleet.health.monitor };
		for (const { name } of infoFamilies(telemetry.directory.get(node), sample, 0, options)) exported.add(name);
		const page = await (await fetch(`${fleet.url}/metrics`)).text();
		for (const [, name] of page.matchAll(/^# TYPE (\S+) /gm)) exported.add(name ?? '');
		// Made by control-plane/push.ts where a receiver is configured.
		const push = readFileSync(join(import.meta.dirname, '../../control-plane/push.ts'), 'utf8');
		for (const [name] of push.matchAll(/gpuaas_push_[a-z_]+/g)) exported.add(name);
		// Made by control-plane/listeners.ts beside the reconciler that counts them.
		const listeners = readFileSync(join(import.meta.dirname, '../../control-plane/listeners.ts'), 'utf8');
		for (const [, name] of listeners.matchAll(/name: '(gpuaas_[a-z_]+)'/g)) exported.add(name ?? '');
		const recorded = readFileSync(join(FOLDER, 'recording.rules.yml'), 'utf8');
		for (const [, name] of recorded.matchAll(/record: (\S+)/g)) exported.add(name ?? '');
	});
	afterAll(async () => {
		await fleet[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true, force: true });
	});

	const promtool = (...args: string[]) => spawnSync(tool('promtool'), args, { cwd: FOLDER, encoding: 'utf8' });

	test('promtool takes configuration and rules, and their tests pass', () => {
		for (const args of [
			['check', 'config', 'prometheus.yml'],
			['check', 'rules', 'recording.rules.yml', 'alerts.rules.yml'],
			['test', 'rules', 'rules.test.yml'],
		]) {
			const { status, stdout, stderr } = promtool(...args);
			expect(`${status} ${stderr}`, stdout).toBe('0 ');
		}
	});

	test('rules and dashboards use only metrics that we export', () => {
		const rules = ['recording.rules.yml', 'alerts.rules.yml'].map((file) => readFileSync(join(FOLDER, file), 'utf8'));
		const expressions = [
			...rules.flatMap((text) => [...text.matchAll(/expr: (.+)$/gm)].map(([, expression]) => expression ?? '')),
			...[...dashboards.values()].flatMap(expressionsOf),
		];
		expect(expressions.length).toBeGreaterThan(80);
		const unknown = expressions.flatMap((expression) =>
			[...expression.matchAll(METRIC)].map(([name]) => name).filter((name) => !exported.has(name)),
		);
		expect([...new Set(unknown)]).toEqual([]);
	});

	test.each(DASHBOARDS)('%s: every query parses, panels fit and have titles of their own', (file) => {
		const dashboard = present(dashboards.get(file), file);
		const lines = expressionsOf(dashboard).map((expression, index) => {
			const plain = expression.replaceAll(/\$(instance|gpu)/g, 'x');
			return `      - record: dashboard:expression:${index}\n        expr: ${JSON.stringify(plain)}`;
		});
		const path = join(folder, `${file}.yml`);
		writeFileSync(path, `groups:\n  - name: dashboard\n    rules:\n${lines.join('\n')}\n`);
		const { status, stderr } = promtool('check', 'rules', path);
		expect(`${status} ${stderr}`).toBe('0 ');
		const titles = dashboard.panels.map(({ title }) => title);
		expect(new Set(titles).size).toBe(titles.length);
		for (const { gridPos } of dashboard.panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
	});

	test('dashboards have ids of their own', () => {
		const all = [...dashboards.values()];
		expect(new Set(all.map(({ uid }) => uid)).size).toBe(5);
		expect(DASHBOARDS.sort()).toEqual(['agent-cost.json', 'fleet.json', 'gpu.json', 'health.json', 'node.json']);
	});
});

function expressionsOf({ panels, templating }: Dashboard): string[] {
	const variables = templating.list.flatMap(({ definition }) => {
		const selector = /^label_values\((.+), \w+\)$/.exec(definition ?? '')?.[1];
		return selector === undefined ? [] : [selector];
	});
	return [...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)), ...variables];
}
