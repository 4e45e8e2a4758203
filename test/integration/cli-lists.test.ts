import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Command } from '../../cli/command.ts';
import { putContext } from '../../cli/contexts.ts';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import { VERBS } from '../../cli/verbs.ts';
import { ApiWorld } from './api-world.ts';

/** What every verb that lists prints, against the real API. */
let world: ApiWorld;
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-cli-lists-'));
const env = { GPUAAS_CONFIG_DIR: folder };
beforeAll(async () => {
	world = await ApiWorld.start();
	const owner = await world.addPrincipal('operator', 'tenant.owner', 'organizations/globex');
	const context = { address: world.url, caPem: world.rootPem };
	await putContext(testIo(env), 'owner', { ...context, key: owner });
	await putContext(testIo(env), 'platform', { ...context, key: world.operatorKey });
});
afterAll(async () => {
	rmSync(folder, { recursive: true, force: true });
	await world[Symbol.asyncDispose]();
});

async function gpuaas(...argv: string[]) {
	const io = testIo(env);
	const exit = await dispatch(argv, io);
	expect(exit, `${argv.join(' ')}: ${io.out()}${io.err()}`).toBe(0);
	return io.out();
}

const LISTS: readonly Command[] = (await Promise.all(VERBS.map(async (verb) => (await verb.load()).commands)))
	.flat()
	.filter(({ name }) => / (list|recordings)$/.test(name));

test.each(LISTS)('$name --json is a document that names what it lists', async ({ name, usage = '' }) => {
	// Of one organization where it must be said of which.
	const isOfScope = /^(SCOPE|ORGANIZATION)/.test(usage);
	const given = isOfScope ? ['globex', '--context', 'owner'] : ['--context', 'platform'];
	const document = JSON.parse(await gpuaas(...name.split(' '), ...given, '--json'));
	expect(Array.isArray(document), 'no bare array').toBe(false);
	const lists = Object.values(document).filter((value) => Array.isArray(value));
	expect(lists.length, JSON.stringify(document)).toBeGreaterThan(0);
});

describe('node list', () => {
	test('is by name, as people count, in whatever order nodes were enrolled', async () => {
		for (const name of ['gpu-10', 'gpu-2', 'cpu-1']) await world.addNode({ name });
		const names = ['cpu-1', 'gpu-2', 'gpu-10'];
		const rows = (await gpuaas('node', 'list', '--context', 'platform')).trimEnd().split('\n').slice(1);
		expect(rows.map((row) => row.split(' ')[0])).toEqual(names);
		const { nodes } = JSON.parse(await gpuaas('node', 'list', '--json', '--context', 'platform'));
		expect(nodes.map(({ name }: { name: string }) => name)).toEqual(names);
	});
});

describe('token list', () => {
	test('has apart which node a token is for and which one used it', async () => {
		await gpuaas('token', 'create', '--name', 'gpu-07', '--context', 'platform');
		await gpuaas('token', 'create', '--context', 'platform');
		const [head = '', named = '', any = ''] = (await gpuaas('token', 'list', '--context', 'platform')).split('\n');
		const cell = (line: string, column: string) => line.slice(head.indexOf(column)).split('  ')[0];
		expect([cell(named, 'FOR'), cell(named, 'USED BY')]).toEqual(['gpu-07', '-']);
		expect([cell(any, 'FOR'), cell(any, 'USED BY')]).toEqual(['any host', '-']);
		await world.deps.store.unit((tx) =>
			tx.joinTokens.update(named.split(' ')[0] ?? '', { state: 'used', nodeId: 'node-id' }, 'unused'),
		);
		const used = (await gpuaas('token', 'list', '--context', 'platform')).split('\n')[1] ?? '';
		expect(used).toMatch(/ used +gpu-07 +node-id /);
	});
});
