import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { parseJoinToken } from '../../pki/keys/join-token.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TaskService, TaskSpecSchema, TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';

let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

const RUN = create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['/bin/true'] } } });

describe('system', () => {
	test('anybody may ask for the version', async () => {
		expect(await world.client(SystemService).getVersion({})).toMatchObject({
			version: '0.1.0',
			commit: 'test',
			apiVersion: 'v1',
		});
	});

	test('who am I names the principal, its bindings and its key, and never the secret', async () => {
		const me = await world.client(SystemService, world.operatorKey).whoAmI({});
		expect(me).toMatchObject({
			principalId: 'bootstrap-operator',
			kind: 'operator',
			bindings: [{ role: 'platform.operator', scope: 'platform' }],
		});
		expect(world.operatorKey).toContain(me.credentialId);
		expect(me.credentialId).toHaveLength(12);
	});

	test('health looks at every dependency', async () => {
		const health = await world.client(SystemService, world.operatorKey).getHealth({});
		expect(health.checks.map(({ name, ok }) => [name, ok])).toEqual([
			['store', true],
			['isolation', true],
			['ca', true],
			['clock', true],
			['disk', true],
			['audit', true],
		]);
		expect(health.ready).toBe(true);
	});
});

describe('credentials', () => {
	test.each([
		['none', undefined],
		['a malformed one', 'not-a-key'],
		['a mistyped one', 'x'],
		['one of another environment', 'other'],
	])('%s is UNAUTHENTICATED', async (_name, key) => {
		const sent = key === 'x' ? `${world.operatorKey.slice(0, -1)}${world.operatorKey.endsWith('0') ? '1' : '0'}` : key;
		const refused = await refusalOf(world.client(NodeService, sent).listNodes({}));
		expect(refused).toMatchObject({ code: 'Unauthenticated', reason: 'UNAUTHENTICATED', domain: 'gpuaas' });
	});

	test('a revoked key stops working at once, although it was used before', async () => {
		const key = await world.addPrincipal('user', 'platform.viewer', 'platform');
		const client = world.client(NodeService, key);
		await client.listNodes({});
		const id = present(key.split('_')[3], 'the key id');
		await world.deps.store.unit((tx) => tx.apiKeys.revokeCredential(id, world.deps.clock.now()));
		expect(await refusalOf(client.listNodes({}))).toMatchObject({
			code: 'Unauthenticated',
			message: expect.stringContaining('revoked'),
		});
	});

	test('an expired key says so, to whoever holds it', async () => {
		const key = await world.addPrincipal('user', 'platform.viewer', 'platform', -1);
		expect((await refusalOf(world.client(NodeService, key).listNodes({}))).message).toContain('expired');
	});
});

describe('nodes', () => {
	test('are listed with pages bound to their caller and filter', async () => {
		const nodes = [await world.addNode({ labels: { rack: 'r7' } }), await world.addNode({ labels: { rack: 'r7' } })];
		const client = world.client(NodeService, world.operatorKey);
		const first = await client.listNodes({ pageSize: 1, selector: { rack: 'r7' } });
		const second = await client.listNodes({ pageSize: 1, selector: { rack: 'r7' }, pageToken: first.nextPageToken });
		expect([...first.nodes, ...second.nodes].map(({ id }) => id)).toEqual(nodes.map(({ id }) => id).sort());
		const elsewhere = { pageSize: 1, pageToken: first.nextPageToken };
		expect(await refusalOf(client.listNodes(elsewhere))).toMatchObject({ reason: 'PAGE_TOKEN_INVALID' });
		const viewer = await world.addPrincipal('user', 'platform.viewer', 'platform');
		const stolen = world.client(NodeService, viewer).listNodes({ ...elsewhere, selector: { rack: 'r7' } });
		expect(await refusalOf(stolen)).toMatchObject({ reason: 'PAGE_TOKEN_INVALID' });
	});

	test('labels change only with the etag of what was read', async () => {
		const node = await world.addNode();
		const client = world.client(NodeService, world.operatorKey);
		const read = present((await client.getNode({ node: node.name })).node, 'a node');
		const changed = await client.setNodeLabels({ node: node.id, labels: { a: 'b' }, etag: read.etag });
		expect(changed.node?.labels).toEqual({ a: 'b' });
		const stale = client.setNodeLabels({ node: node.id, labels: {}, etag: read.etag });
		expect(await refusalOf(stale)).toMatchObject({ code: 'Aborted', reason: 'ETAG_MISMATCH' });
	});

	test('a cordoned node refuses new tasks until it is uncordoned', async () => {
		const node = await world.addNode();
		const nodes = world.client(NodeService, world.operatorKey);
		const tasks = world.client(TaskService, world.operatorKey);
		await nodes.cordonNode({ node: node.id, reason: 'fan' });
		expect(await refusalOf(tasks.createTask({ node: node.id, spec: RUN }))).toMatchObject({
			code: 'FailedPrecondition',
			reason: 'NODE_CORDONED',
		});
		await nodes.uncordonNode({ node: node.id });
		expect((await tasks.createTask({ node: node.id, spec: RUN })).task?.state).toBe(TaskState.QUEUED);
	});
});

describe('join tokens', () => {
	test('are shown once and work for the agent; a privileged call waits for a signed head', async () => {
		const before = world.heads.waitedFor.length;
		const client = world.client(TokenService, world.operatorKey);
		const made = await client.createToken({ nodeName: 'rack1-host7' });
		const parsed = parseJoinToken(made.joinToken);
		// Its pins are what a host that knows nothing else recognises this control plane by.
		const caPins = world.deps.authority.pins();
		expect(parsed).toMatchObject({
			kind: 'ok',
			token: { id: made.token?.id, trustDomain: 'test.gpuaas.example', caPins },
		});
		expect(world.heads.waitedFor.length).toBe(before + 1);
		const listed = await client.listTokens({});
		expect(JSON.stringify(listed.tokens.map(({ id, nodeName }) => [id, nodeName]))).toContain('rack1-host7');
	});

	test('none is made while audit signing is stopped', async () => {
		const client = world.client(TokenService, world.operatorKey);
		const before = (await client.listTokens({ pageSize: 1000 })).tokens.length;
		world.heads.stopped = new Error('signing is stopped');
		try {
			expect(await refusalOf(client.createToken({}))).toMatchObject({ code: 'Internal' });
		} finally {
			world.heads.stopped = undefined;
		}
		expect((await client.listTokens({ pageSize: 1000 })).tokens.length).toBe(before);
	});
});

describe('tasks', () => {
	test('are stored with their spec, queued, and found again', async () => {
		const node = await world.addNode();
		const client = world.client(TaskService, world.operatorKey, { 'x-correlation-id': 'from-the-cli' });
		const made = present((await client.createTask({ node: node.name, spec: RUN, batchId: 'b1' })).task, 'a task');
		expect(made).toMatchObject({
			nodeId: node.id,
			state: TaskState.QUEUED,
			maxAttempts: 1,
			correlationId: 'from-the-cli',
		});
		expect((await client.getTask({ taskId: made.id })).task).toEqual(made);
		expect((await client.listTasks({ batchId: 'b1', node: node.id })).tasks).toEqual([made]);
	});

	test('one that waits is cancelled at once, with a closing that the server signed', async () => {
		const node = await world.addNode();
		const client = world.client(TaskService, world.operatorKey);
		const made = present((await client.createTask({ node: node.id, spec: RUN })).task, 'a task');
		const cancelled = present((await client.cancelTask({ taskId: made.id })).task, 'a task');
		expect(cancelled).toMatchObject({ state: TaskState.CANCELLED, reason: 'CANCELLED' });
		const receipt = await client.getTaskReceipt({ taskId: made.id });
		expect(receipt.closing?.payloadType).toBe('application/vnd.gpuaas.task-closing.v1+protobuf');
		expect(receipt.closing?.signatures).toHaveLength(1);
		// Leaf, issuing CA, root: what an offline verifier needs.
		expect(receipt.signerChain).toHaveLength(3);
		expect((await client.cancelTask({ taskId: made.id })).task?.state).toBe(TaskState.CANCELLED);
	});

	test('pages of a list join to the whole, newest first, also when large tasks end a page early', async () => {
		const node = await world.addNode();
		const client = world.client(TaskService, world.operatorKey);
		const argv = ['/bin/true', ...Array.from({ length: 14 }, () => 'x'.repeat(60_000))];
		const spec = create(TaskSpecSchema, { kind: { case: 'run', value: { argv } } });
		const made: string[] = [];
		for (let index = 0; index < 60; index += 1) {
			const { task } = await client.createTask({ node: node.id, spec: index % 2 === 0 ? spec : RUN });
			made.unshift(task?.id ?? '');
		}
		const listed: string[] = [];
		const pages: number[] = [];
		let pageToken = '';
		do {
			const page = await client.listTasks({ node: node.id, pageSize: 1000, pageToken });
			listed.push(...page.tasks.map(({ id }) => id));
			pages.push(page.tasks.length);
			pageToken = page.nextPageToken;
		} while (pageToken !== '');
		expect(listed).toEqual(made.toSorted().reverse());
		expect(pages).toEqual([50, 10]);
	});

	test('a task for a node that is not there is refused, and none comes of it', async () => {
		const client = world.client(TaskService, world.operatorKey);
		const before = await client.listTasks({});
		for (const node of ['nobody', '018f0000-0000-7000-8000-000000000000']) {
			const refused = await refusalOf(
				client.createTask({ node, spec: { kind: { case: 'run', value: { argv: ['/bin/true'] } } } }),
			);
			expect(refused).toMatchObject({ code: 'NotFound', reason: 'NODE_NOT_FOUND' });
		}
		expect((await client.listTasks({})).tasks.length).toBe(before.tasks.length);
	});

	test('arguments that no program could be given are refused', async () => {
		const node = await world.addNode();
		const client = world.client(TaskService, world.operatorKey);
		const argv = Array.from({ length: 20 }, () => 'x'.repeat(60_000));
		const large = client.createTask({ node: node.id, spec: { kind: { case: 'run', value: { argv } } } });
		expect(await refusalOf(large)).toMatchObject({ code: 'InvalidArgument', reason: 'ARGUMENTS_TOO_LARGE' });
		for (const value of [{ argv: ['/bin/echo', 'a\0b'] }, { argv: ['/bin/echo'], env: { A: 'a\0b' } }])
			expect(
				await refusalOf(client.createTask({ node: node.id, spec: { kind: { case: 'run', value } } })),
			).toMatchObject({ code: 'InvalidArgument', reason: 'INVALID_REQUEST' });
	});

	test('an environment that no program could be given is refused, and one that fits is not', async () => {
		const node = await world.addNode();
		const client = world.client(TaskService, world.operatorKey);
		const create = (variables: number, characters: number) => {
			const entries = Array.from(
				{ length: variables },
				(_, index) => [`NAME_${index}`, 'x'.repeat(characters)] as const,
			);
			const value = { argv: ['/bin/true'], env: Object.fromEntries(entries) };
			return client.createTask({ node: node.id, spec: { kind: { case: 'run', value } } });
		};
		// Each within its own bound, and too much together.
		expect(await refusalOf(create(60, 20_000))).toMatchObject({
			code: 'InvalidArgument',
			reason: 'ARGUMENTS_TOO_LARGE',
			metadata: { bytes_max: expect.stringMatching(/^\d+$/) },
		});
		expect(await refusalOf(create(1, 32_769))).toMatchObject({ code: 'InvalidArgument', reason: 'INVALID_REQUEST' });
		expect(await refusalOf(create(257, 1))).toMatchObject({ code: 'InvalidArgument', reason: 'INVALID_REQUEST' });
		expect((await create(2, 32_768)).task).toMatchObject({ state: TaskState.QUEUED });
	});

	test('a field that breaks the contract is named', async () => {
		const client = world.client(TaskService, world.operatorKey);
		const refused = await refusalOf(
			client.createTask({ node: '', spec: { kind: { case: 'run', value: { argv: [] } } } }),
		);
		expect(refused).toMatchObject({ code: 'InvalidArgument', reason: 'INVALID_REQUEST' });
		expect(refused.message).toContain('node: must not be empty');
		expect(refused.message).toContain('argv: must have at least one');
		const spec = { kind: { case: 'run' as const, value: { argv: ['true'], user: 'A b' } } };
		const named = await refusalOf(client.createTask({ node: 'n', spec }));
		expect(named.message).toMatch(/correct spec\.run\.user: must be the name of an account: [^^$[]+$/);
	});
});
