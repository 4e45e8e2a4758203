import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
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

	/** A head is anchored every few seconds. */
	const verifies = () =>
		eventually('the log verifies', async () => {
			const { stdout, stderr } = await world.run('audit', 'verify');
			if (!stdout.startsWith('verified to anchored head')) throw new Error(`${stdout}${stderr}`);
			return true;
		});

	test('runs tasks, keeps their records, and verifies its audit log', async () => {
		expect(await world.run('run', '--', 'sh', '-c', 'echo hi; exit 3')).toMatchObject({ code: 3, stdout: 'hi\n' });
		const { tasks } = await world.json<{ tasks: { exitCode?: number }[] }>('task', 'list');
		expect(tasks.map(({ exitCode }) => exitCode)).toEqual([3, 0]);
		await verifies();
	});

	test('a crash of PostgreSQL and kill -9 of the control plane in the middle of a task lose nothing', async () => {
		// Tasks run as another user, to whom the world's folder is closed.
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-crash-'));
		chmodSync(folder, 0o755);
		const script = `echo 1; echo 2; until [ -e ${folder}/go ]; do sleep 0.05; done; echo 3; exit 7`;
		const run = world.start(['run', '--', 'sh', '-c', script]);
		await run.line((line) => line === '2');
		await server.stop('immediate');
		for (const pid of world.pids('control-plane/main')) killQuietly(pid);
		writeFileSync(join(folder, 'go'), '');
		await server.boot();
		expect(await run.ended).toMatchObject({ code: 7, stdout: '1\n2\n3\n' });
		rmSync(folder, { recursive: true });
		await verifies();
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
	});

	test('refuses a password on the command line', async () => {
		const refused = await world.run('up', '--data', `${world.data}-other`, '--store', 'postgres://me:secret@db/gpuaas');
		expect(refused.code).toBe(2);
		expect(refused.stderr).toContain('.pgpass');
		expect(refused.stderr).not.toContain('secret');
	});
});
