import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { keepAlive } from '../../kit/clock.ts';
import { CHECKERS, type Checker } from './history.ts';
import { checkSeed, type World } from './run.ts';

/**
 * A checker that can't fail checks nothing: each is shown a world with a bug of its kind in it. The same seed without
 * the bug must pass, so that it is the bug that is found.
 */
const SEED = 3;
/** One in which a node is given to a project while faults come. */
const QUOTA_SEED = 4;
/** Inside the time in which everything breaks. */
const SOME_TIME_MS = 60_000;

function at(world: World, ms: number, work: () => void): void {
	world.scheduler.at(Math.max(ms, world.scheduler.elapsedMs), work);
}

/** Somebody with access to the disk changes the database while the control plane is down. */
function tamper(world: World, sql: string, atMs = SOME_TIME_MS): void {
	at(world, atMs, () => {
		world.controlPlane.tamperAtCrash((image) => {
			const database = new Database(Buffer.from(image));
			database.exec(sql);
			const changed = database.serialize();
			database.close();
			return changed;
		});
		world.controlPlane.kill('to be tampered with');
		world.controlPlane.tamperAtCrash((image) => image);
	});
}

interface Bug {
	readonly bug: string;
	readonly finds: Checker;
	/** Default: SEED. */
	readonly seed?: number;
	readonly inject: (world: World) => void;
}

const BUGS: readonly Bug[] = [
	{
		bug: 'a process host begins a program twice',
		finds: 'nothing-runs-twice',
		inject: ({ nodes }) => {
			for (const node of nodes) node.host.isSloppy = true;
		},
	},
	{
		bug: 'a process host forgets what it runs, and is asked again',
		finds: 'nothing-runs-twice',
		inject: (world) => {
			for (const node of world.nodes) node.host.isForgetful = true;
		},
	},
	{
		bug: 'a commit that was acknowledged is gone after a crash',
		finds: 'nothing-acknowledged-is-lost',
		inject: (world) => {
			at(world, SOME_TIME_MS / 2, () => world.controlPlane.forgetCommits());
			at(world, SOME_TIME_MS, () => world.controlPlane.kill('to lose its commits'));
		},
	},
	{
		bug: 'a receipt that the agent was told is stored is gone',
		finds: 'nothing-acknowledged-is-lost',
		inject: (world) => tamper(world, 'update task_documents set receipt = null'),
	},
	{
		bug: 'the tail of the audit log was cut off',
		finds: 'audit-intact',
		inject: (world) =>
			tamper(
				world,
				`drop trigger audit_leaves_delete; drop trigger audit_chain_delete; drop trigger audit_clear_delete;
				delete from audit_clear where leaf_id in (select id from audit_leaves order by ord desc limit 3);
				delete from audit_chain where ord in (select ord from audit_leaves order by ord desc limit 3);
				delete from audit_leaves where ord in (select ord from audit_leaves order by ord desc limit 3);`,
			),
	},
	{
		bug: 'a leaf of the audit log was altered',
		finds: 'audit-intact',
		inject: (world) =>
			tamper(
				world,
				`drop trigger audit_leaves_update;
				update audit_leaves set leaf = cast(replace(cast(leaf as text), 'nodes.enroll', 'nodes.unlock') as blob);`,
			),
	},
	{
		bug: 'a change has no audit record',
		finds: 'audit-intact',
		inject: (world) => {
			const life = world.controlPlane.life;
			if (life === undefined) throw new Error('the control plane serves when faults begin');
			Object.assign(life.deps, {
				*appendAudit() {
					return 'no-leaf';
				},
			});
		},
	},
	{
		bug: 'a quota counts a node that nobody has',
		finds: 'quotas-count-what-is-open',
		seed: QUOTA_SEED,
		inject: (world) => tamper(world, "update quotas set used = used + 1 where kind = 'nodes'", 90_000),
	},
	{
		bug: 'epochs go back',
		finds: 'nothing-goes-back',
		inject: (world) => tamper(world, 'drop trigger nodes_counters; update nodes set epoch = 0;'),
	},
	{
		bug: 'an ended task comes back to life',
		finds: 'nothing-goes-back',
		inject: (world) => tamper(world, "update tasks set state = 'running' where state <> 'queued'", 110_000),
	},
	{
		bug: 'the old session of a node keeps its power when a new one is welcomed',
		finds: 'one-session-per-node',
		inject: (world) => {
			const { registry } = world.controlPlane.life ?? {};
			if (registry === undefined) throw new Error('the control plane serves when faults begin');
			const add = registry.add.bind(registry);
			registry.add = (session) => registry.get(session.nodeId) !== undefined || add(session);
			// Agents come back while the server still believes in their former connection.
			for (let ms = 10_000; ms < 120_000; ms += 12_000)
				at(world, ms, () => {
					for (const { name } of world.nodes) world.network.breakWires(name, 'both');
					for (const node of world.nodes) node.killAgent('to come back');
				});
		},
	},
	{
		bug: 'a closing is signed by somebody else',
		finds: 'one-receipt-per-attempt',
		inject: (world) =>
			tamper(
				world,
				"update task_documents set signer_certificate = (select der from certificates where kind = 'node')",
				120_000,
			),
	},
	{
		bug: 'a disk that never comes back',
		finds: 'everything-ends',
		inject: ({ controlPlane, scheduler }) => {
			const isBroken = () => scheduler.elapsedMs > SOME_TIME_MS;
			Object.defineProperty(controlPlane.disk, 'fault', {
				get: () => (isBroken() ? 'IOERR' : undefined),
				set: () => {},
			});
		},
	},
	{
		bug: 'a step opens something of the real world',
		finds: 'no-open-resources',
		inject: (world) => {
			const held = keepAlive();
			at(world, SOME_TIME_MS, () => held[Symbol.dispose]());
		},
	},
	{
		bug: 'a rejection that nobody handles',
		finds: 'no-bugs',
		inject: (world) => at(world, SOME_TIME_MS, () => void Promise.reject(new Error('nobody cares'))),
	},
	{
		bug: 'something that is not from the seed decides',
		finds: 'one-trace-per-seed',
		inject: (world) => {
			runs += 1;
			at(world, SOME_TIME_MS + runs, () => world.nodes[0]?.killAgent('a coin of the real world'));
		},
	},
];

let runs = 0;

describe('each checker', () => {
	test.each([SEED, QUOTA_SEED])('is content with seed %i as it is', async (seed) => {
		expect((await checkSeed(seed)).violations).toEqual([]);
	});

	test('has a bug to find', () => {
		expect(BUGS.map(({ finds }) => finds)).toEqual(expect.arrayContaining([...CHECKERS]));
	});

	test.each(BUGS)('$finds finds: $bug', async ({ finds, seed = SEED, inject }) => {
		const { violations } = await checkSeed(seed, { sabotage: inject });
		expect(violations.map(({ checker }) => checker)).toContain(finds);
	});
});
