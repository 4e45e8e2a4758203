import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { DEFAULT_POLICY } from '../health/default-policy.ts';
import { loadConfig } from '../kit/config.ts';
import { createLogger } from '../kit/log.ts';
import { CONTROL_PLANE_SCHEMA } from './config.ts';
import { appLimits, healthPolicy } from './parts.ts';

const folder = mkdtempSync(join(tmpdir(), 'gpuaas-parts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const configOf = (text: string) =>
	loadConfig(CONTROL_PLANE_SCHEMA, { file: { path: 'control-plane.toml', text }, env: {} }).values;

it('takes the health policy that ships, or that of the file, and refuses one that is wrong in any place', () => {
	expect(healthPolicy(configOf(''))).toBe(DEFAULT_POLICY);
	const path = join(folder, 'policy.json');
	const withFile = configOf(`[health]\npolicy_file = ${JSON.stringify(path)}`);
	writeFileSync(path, JSON.stringify({ ...DEFAULT_POLICY, version: 'mine' }));
	expect(healthPolicy(withFile).version).toBe('mine');
	for (const [text, message] of [
		['{', /no JSON/],
		[JSON.stringify({ ...DEFAULT_POLICY, fleets: { lab: { xids: { 79: 'nothing' } } } }), /fleets\.lab\.xids\.79/],
		[JSON.stringify({ ...DEFAULT_POLICY, rules: [] }), /unknown field "rules"/],
	] as const) {
		writeFileSync(path, text);
		expect(() => healthPolicy(withFile)).toThrow(message);
	}
	rmSync(path);
	expect(() => healthPolicy(withFile)).toThrow(/can be read/);
});

it('says which rules of the policy that ships the file lacks, as one that was written for the version before', () => {
	const path = join(folder, 'before.json');
	const facts = DEFAULT_POLICY.facts.filter(({ check }) => check !== 'disk.hung');
	writeFileSync(path, JSON.stringify({ ...DEFAULT_POLICY, version: 'before', facts }));
	const lines: string[] = [];
	const log = createLogger({ name: 'test', destination: { write: (line) => lines.push(line) } });
	const withFile = configOf(`[health]\npolicy_file = ${JSON.stringify(path)}`);
	expect(healthPolicy(withFile, log).version).toBe('before');
	expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ level: 'warn', file: path, checks: ['disk.hung'] }]);
	writeFileSync(path, JSON.stringify(DEFAULT_POLICY));
	healthPolicy(withFile, log);
	expect(lines).toHaveLength(1);
});

it('takes the limits of quarantine', () => {
	const config = configOf('[health]\nquarantine_percent = 5\nquarantine_nodes = 7\nquarantine_attempts = 2');
	expect(appLimits(config).quarantine).toMatchObject({ percentMax: 5, nodesMax: 7, attemptsMax: 2 });
});
