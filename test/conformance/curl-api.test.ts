import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApiWorld } from '../integration/api-world.ts';
import { lacks, tool } from '../tools.ts';
import { misfits, operation } from './openapi-document.ts';

const run = promisify(execFile);

describe.skipIf(lacks('curl'))('curl', () => {
	let world: ApiWorld;
	beforeAll(async () => {
		world = await ApiWorld.start();
		// Not in argv, where every user of the host can read it.
		writeFileSync(join(world.folder, 'curlrc'), `header = "Authorization: Bearer ${world.operatorKey}"\n`, {
			mode: 0o600,
		});
	});
	afterAll(() => world[Symbol.asyncDispose]());

	async function curl(
		path: string,
		body: string,
		...more: string[]
	): Promise<{ status: string; body: Record<string, unknown> }> {
		const args = [
			'--silent',
			'--show-error',
			'--cacert',
			world.rootFile(),
			'--write-out',
			'\n%{http_code} %{http_version}',
		];
		const json = ['--header', 'Content-Type: application/json', '--data', body];
		const { stdout } = await run(tool('curl'), [...args, ...json, ...more, `${world.url}${path}`]);
		const at = stdout.lastIndexOf('\n');
		return { status: stdout.slice(at + 1), body: JSON.parse(stdout.slice(0, at)) };
	}
	const signedIn = () => ['--config', join(world.folder, 'curlrc')];

	test.each([
		['--http1.1', '1.1'],
		['--http2', '2'],
	])('%s: JSON in, JSON out', async (flag, version) => {
		const node = await world.addNode();
		const answer = await curl(
			'/gpuaas.tasks.v1.TaskService/CreateTask',
			`{"node":"${node.name}","spec":{"run":{"argv":["/bin/true"]}}}`,
			flag,
			...signedIn(),
		);
		expect(answer.status).toBe(`200 ${version}`);
		expect(answer.body).toMatchObject({ task: { nodeId: node.id, state: 'TASK_STATE_QUEUED' } });
	});

	test('proto/openapi.json alone is enough to make a task and to read it', async () => {
		const node = await world.addNode();
		const known = { node: node.name, spec: { run: { argv: ['/bin/true'] } } };
		const [create, get] = [operation('TaskService.CreateTask'), operation('TaskService.GetTask')];
		expect([create.method, get.method]).toEqual(['POST', 'POST']);
		const made = await curl(create.path, JSON.stringify(create.body(known)), '--request', create.method, ...signedIn());
		expect(made.status).toMatch(/^200 /);
		expect(misfits(create.answer, made.body)).toEqual([]);
		const { id } = made.body.task as { id: string };
		const read = await curl(get.path, JSON.stringify(get.body({ taskId: id })), '--request', get.method, ...signedIn());
		expect(read.status).toMatch(/^200 /);
		expect(misfits(get.answer, read.body)).toEqual([]);
		expect(read.body).toEqual(made.body);
		// What it calls required is, and what it says of refusals is what comes.
		for (const field of create.required) {
			const { [field]: _, ...rest } = create.body(known);
			const refused = await curl(create.path, JSON.stringify(rest), ...signedIn());
			expect(refused.status).toMatch(/^400 /);
			expect(misfits(create.refusal('400'), refused.body)).toEqual([]);
		}
	});

	test('an answer that its schema does not know is found', () => {
		const { answer } = operation('TaskService.GetTask');
		expect(
			misfits(answer, { task: { id: 1, state: 'TASK_STATE_HAPPY', spec: { run: { argv: 'x' } }, extra: 1 } }),
		).toEqual([
			'.task.id: not a string',
			'.task.state: not one of its values',
			'.task.spec.run.argv: not a list',
			'.task.extra: not in the document',
		]);
	});

	test('errors are JSON that says what to do', async () => {
		const anonymous = await curl('/gpuaas.nodes.v1.NodeService/ListNodes', '{}');
		expect(anonymous.status).toMatch(/^401 /);
		expect(anonymous.body).toMatchObject({
			code: 'unauthenticated',
			message: expect.stringContaining('Authorization: Bearer'),
		});
		const invalid = await curl('/gpuaas.nodes.v1.NodeService/GetNode', '{}', ...signedIn());
		expect(invalid.status).toMatch(/^400 /);
		expect(invalid.body).toMatchObject({
			code: 'invalid_argument',
			details: [{ type: 'google.rpc.ErrorInfo' }, { type: 'google.rpc.BadRequest' }],
		});
	});

	test('a read can be a GET', async () => {
		const { stdout } = await run(tool('curl'), [
			'--silent',
			'--cacert',
			world.rootFile(),
			...signedIn(),
			`${world.url}/gpuaas.system.v1.SystemService/WhoAmI?encoding=json&message=%7B%7D`,
		]);
		expect(JSON.parse(stdout)).toMatchObject({ principalId: 'bootstrap-operator' });
	});
});
