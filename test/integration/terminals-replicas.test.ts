import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NodeEnd } from '../../control-plane/app/terminals/node-end.ts';
import type { Relay } from '../../control-plane/app/terminals/relay.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { SessionRow } from '../../control-plane/store/port/sessions.ts';
import { present } from '../../kit/assert.ts';
import { ChannelHelloSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { lacks } from '../tools.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';
import { addTerminal, attach } from './terminal-samples.ts';

/** What a client is told at a replica that doesn't have the node's link: nothing is relayed between replicas. */
const dialects = lacks('postgres', 'initdb') ? (['sqlite'] as const) : (['sqlite', 'postgres'] as const);
describe.each(dialects)('a terminal whose node is at another replica, on %s', (dialect) => {
	let server: PostgresServer | undefined;
	let world: ApiWorld;
	/** Of a tenant. */
	let key: string;
	let principalId: string;

	beforeAll(async () => {
		if (dialect === 'postgres') server = await PostgresServer.start();
		const url = await server?.createDatabase();
		world = await ApiWorld.start(url === undefined ? {} : { openStore: (deps) => openStore(url, deps) });
		key = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
		principalId = `principal-${present(/^gpu_uk_[a-z0-9]+_([^_]+)_/.exec(key)?.[1], 'a key')}`;
	});

	afterAll(async () => {
		await world[Symbol.asyncDispose]();
		await server?.[Symbol.asyncDispose]();
	});

	async function linkAt(nodeId: string, replicaId: string, epoch: number, change: Partial<SessionRow> = {}) {
		const times = { connectedAtMs: 1, leaseUntilMs: Number.MAX_SAFE_INTEGER, disconnectedAtMs: null, lostAtMs: null };
		const row = { nodeId, replicaId, epoch, instanceId: 'i', ...times, ...change };
		await world.deps.store.unit((tx) => tx.sessions.put(row));
	}

	async function openTerminal() {
		const node = await world.addNode();
		const project = { organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR };
		await world.client(NodeService, world.operatorKey).assignNode({ node: node.id, ...project });
		const id = await addTerminal(world, node.id, principalId, {
			state: 'open',
			closedAtMs: null,
			reason: '',
			expiresAtMs: Number.MAX_SAFE_INTEGER,
		});
		return { nodeId: node.id, id };
	}

	const reasonOf = async (id: string) =>
		JSON.parse((await attach(world, key, id)).body.toString() || '{}') as { reason?: string; message?: string };

	test('refuses whoever attaches or opens one, and names the replica; one that is gone is waited for', async () => {
		const { nodeId, id } = await openTerminal();
		await linkAt(nodeId, 'replica-2', 1);
		const refused = await reasonOf(id);
		expect(refused.reason).toBe('NODE_ON_OTHER_REPLICA');
		expect(refused.message).toContain('replica-2');
		const client = world.client(TerminalService, key);
		const opened = client.openTerminal({ node: nodeId, spec: { kind: { case: 'shell', value: {} } } });
		expect(await refusalOf(opened)).toMatchObject({ reason: 'NODE_ON_OTHER_REPLICA' });
		await linkAt(nodeId, 'replica-2', 2, { disconnectedAtMs: 5 });
		expect(await reasonOf(id)).toEqual({});
		await linkAt(nodeId, 'replica-1', 3);
		expect(await reasonOf(id)).toEqual({});
	});

	test('sends away whoever is attached when the node moves, once its streams are there', async () => {
		const { nodeId, id } = await openTerminal();
		await linkAt(nodeId, 'replica-1', 1);
		const looking = refusalOf(
			(async () => {
				for await (const _ of world.client(TerminalService, key).observeTerminal({ terminalId: id }));
			})(),
		);
		const relay: Relay = await eventually('somebody looks on', () => {
			const found = world.deps.terminals.get(id);
			return found?.viewers.size === 1 && found;
		});
		let ends = 0;
		const end = () => {
			ends += 1;
		};
		const node: NodeEnd = { send: () => {}, end };
		const hello = create(ChannelHelloSchema, { channelId: id });
		const listener = relay.connectNode(hello, node);
		// The link is there, the streams are still here.
		await linkAt(nodeId, 'replica-2', 2);
		world.deps.bus.publish({ topic: 'nodes.changed', key: nodeId });
		expect(await reasonOf(id)).toEqual({});
		await eventually('the other is still there', () => relay.viewers.size === 1);
		listener.onClosed();
		expect(await looking).toMatchObject({ reason: 'NODE_ON_OTHER_REPLICA' });
		expect(ends).toBe(0);
	});
});
