import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openStore } from '../../control-plane/store/open.ts';
import { present } from '../../kit/assert.ts';
import { ScopeKind } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { eventually } from '../eventually.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { ApiWorld } from './api-world.ts';
import { iamClients, idOf } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

/** Which rows changes of identity and access hold, and in which order: on PostgreSQL, where units run side by side. */
const ROUNDS = 6;
let server: PostgresServer;
beforeAll(async () => {
	server = await PostgresServer.start({ durable: false });
});
afterAll(() => server?.[Symbol.asyncDispose]());

const nameOf = (url: string) => new URL(url).pathname.slice(1);

function start(url: string): Promise<ApiWorld> {
	return ApiWorld.start({ openStore: (deps) => openStore(url, deps), api: { connectionsPerAddressMax: 2000 } });
}

/** A backend has told of its deadlocks when it has ended, at the latest. */
async function deadlocksIn(url: string): Promise<number> {
	const name = nameOf(url);
	await eventually('its connections have ended', async () => {
		const of = `select count(*)::int as n from pg_stat_activity where datname = '${name}'`;
		return (await server.query('postgres', of))[0]?.n === 0;
	});
	const sql = `select deadlocks::int as n from pg_stat_database where datname = '${name}'`;
	return Number((await server.query('postgres', sql))[0]?.n);
}

test('what changes one organization at once stands in line and never in a circle', async () => {
	const url = await server.createDatabase();
	const parent = 'organizations/globex';
	{
		await using world = await start(url);
		const owner = iamClients(world, await world.addPrincipal('operator', 'tenant.owner', parent));
		const people = [];
		for (let round = 0; round < ROUNDS; round += 1)
			people.push(idOf(await world.addPrincipal('user', 'tenant.viewer', parent)));
		await owner.principals.createServiceAccount({ parent, id: 'ci', displayName: 'ci' });
		const serviceAccount = `${parent}/serviceAccounts/ci`;
		const { bindings } = await owner.access.listBindings({ parent, pageSize: 1000 });
		for (const [round, principalId] of people.entries()) {
			const { name, etag } = present(
				bindings.find((binding) => binding.principalId === principalId),
				'a binding',
			);
			const { key, secret } = await owner.keys.createKey({ serviceAccount, displayName: `${round}` });
			await Promise.all([
				owner.access.createBinding({ parent, principalId, role: 'tenant.developer' }),
				owner.access.deleteBinding({ name, etag }),
				owner.scopes.createScope({ parent, kind: ScopeKind.PROJECT, id: `p-${round}`, displayName: `p ${round}` }),
				// One key by two who take it back.
				owner.keys.revokeKey({ name: key?.name ?? '', reason: 'found' }),
				iamClients(world, undefined).keys.reportLeakedKey({ key: secret }),
			]);
		}
	}
	expect(await deadlocksIn(url)).toBe(0);
});

test('a node is given to a project, or its organization is deleted, never both', async () => {
	const url = await server.createDatabase();
	await using world = await start(url);
	const parent = 'organizations/acme';
	const operator = iamClients(world, world.operatorKey);
	const { id: node } = await world.addNode();
	const { plan } = await operator.scopes.planScopeDeletion({ name: parent });
	await using holding = await held(url, 'lock table assignments in share mode');
	const train = { organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR };
	// It has looked at the project and what that stands in, and waits to write.
	const assigned = world.client(NodeService, world.operatorKey).assignNode({ node, ...train });
	await holding.others(1);
	let ended = false;
	const deleted = refusalOf(
		operator.scopes.deleteScope({ name: parent, planDigest: plan?.planDigest ?? '', reason: 'over' }),
	).finally(() => {
		ended = true;
	});
	deleted.catch(() => {});
	await eventually('the deletion has ended, or waits too', async () => ended || (await holding.waiting()) > 1);
	await holding.release();
	await assigned;
	expect((await deleted).reason).toBe('SCOPE_IN_USE');
});

/** A connection of somebody else who holds a lock, until it is released. */
async function held(url: string, lock: string) {
	const client = new pg.Client({ connectionString: url });
	client.on('error', () => {});
	await client.connect();
	await client.query('begin');
	await client.query(lock);
	const waiting = async () => {
		const sql = `select count(*)::int as n from pg_stat_activity where datname = '${nameOf(url)}' and wait_event_type = 'Lock'`;
		return Number((await server.query('postgres', sql))[0]?.n);
	};
	return {
		waiting,
		others: (count: number) => eventually(`${count} wait`, async () => (await waiting()) >= count),
		release: () => client.query('rollback'),
		[Symbol.asyncDispose]: () => client.end(),
	};
}
