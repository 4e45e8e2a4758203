import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PostgresServer } from '../fakes/postgres.ts';
import { lacks } from '../tools.ts';
import { killQuietly, UpWorld } from './up-world.ts';

/** The whole product on a real PostgreSQL, which crashes and comes back while it is used. */
describe.skipIf(lacks('postgres', 'initdb'))('gpuaas up --store postgres://', () => {
	const world = new UpWorld();
	let server: PostgresServer;

	beforeAll(async () => {
		server = await PostgresServer.start();
		await world.up('--store', await server.createDatabase());
	});

	afterAll(async () => {
		await world[Symbol.asyncDispose]();
		await server?.[Symbol.asyncDispose]();
	});

	test('runs tasks, keeps their records, and verifies its audit log', async () => {
		expect(await world.run('run', '--', 'sh', '-c', 'echo hi; exit 3')).toMatchObject({ code: 3, stdout: 'hi\n' });
		const { tasks } = await world.json<{ tasks: { exitCode?: number }[] }>('task', 'list');
		expect(tasks.map(({ exitCode }) => exitCode)).toEqual([3, 0]);
		expect((await world.run('audit', 'verify')).stdout).toMatch(/^verified to anchored head/);
	});

	test('a crash of PostgreSQL and kill -9 of the control plane in the middle of a task lose nothing', async () => {
		const run = world.start(['run', '--', 'sh', '-c', 'for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exit 7']);
		await run.line((line) => line === '2');
		await server.stop('immediate');
		for (const pid of world.pids('control-plane/main')) killQuietly(pid);
		await server.boot();
		expect(await run.ended).toMatchObject({ code: 7, stdout: '1\n2\n3\n4\n5\n6\n' });
		expect((await world.run('audit', 'verify')).stdout).toMatch(/^verified to anchored head/);
	});

	test('goes on with the same database when it is not named again, and refuses another', async () => {
		type Tasks = { tasks: { id: string }[] };
		const before = (await world.json<Tasks>('task', 'list')).tasks.map(({ id }) => id);
		await world.stop();
		expect(statSync(join(world.data, 'store.json')).mode & 0o777).toBe(0o600);
		const other = await world.run('up', '--data', world.data, '--store', await server.createDatabase());
		expect(other.code).not.toBe(0);
		expect(other.stderr).toContain('has its records in another store');
		await world.up();
		const after = (await world.json<Tasks>('task', 'list')).tasks.map(({ id }) => id);
		expect(after).toEqual(expect.arrayContaining(before));
		expect(before.length).toBeGreaterThan(1);
	}, 120_000);

	test('refuses a password on the command line', async () => {
		const refused = await world.run('up', '--data', `${world.data}-other`, '--store', 'postgres://me:secret@db/gpuaas');
		expect(refused.code).toBe(2);
		expect(refused.stderr).toContain('.pgpass');
		expect(refused.stderr).not.toContain('secret');
	});
});
