import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { fixtureFrame } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { NodeHealthReconciler } from '../../control-plane/reconcilers/node-health.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { present } from '../../kit/assert.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { monitorDeps } from '../health-monitor.ts';
import { HealthWorld } from './health-world.ts';

/**
 * Two replicas on one database, each with a store, bus, sessions and telemetry of its own: on a real PostgreSQL, where they
 * write at the same time, and on SQLite, where they take turns.
 */
describe.each(['postgres', 'sqlite'] as const)('two replicas on %s', (dialect) => {
	let server: PostgresServer | undefined;
	beforeAll(async () => {
		if (dialect === 'postgres') server = await PostgresServer.start();
	});
	afterAll(() => server?.[Symbol.asyncDispose]());

	interface Replica {
		readonly health: NodeHealthReconciler;
		readonly telemetry: Telemetry;
		readonly sessions: SessionRegistry;
	}

	interface Pair extends AsyncDisposable {
		readonly world: HealthWorld;
		readonly store: Store;
		readonly second: Replica;
		/** The session of the node is on this replica, in the database and in its memory. */
		hold(node: NodeRow, replica: 1 | 2 | undefined, epoch: number): Promise<void>;
		/** An XID that was committed by whoever has the session. */
		bad(node: NodeRow, code?: number): Promise<void>;
		/** Both at once, some times. */
		both(times?: number): Promise<void>;
		row(node: NodeRow): Promise<{ state: string; quarantinedAtMs: number | null; version: number }>;
	}

	async function start(nodesMax = 64): Promise<Pair> {
		const stack = new AsyncDisposableStack();
		const quarantine = { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, nodesMax };
		const url = await server?.createDatabase();
		const more =
			url === undefined ? {} : { openStore: (deps: Parameters<typeof openStore>[1]) => openStore(url, deps) };
		const world = stack.use(await HealthWorld.start({ quarantine }, more));
		const { deps } = world.api;
		const { rng, log } = deps;
		const store = url === undefined ? deps.store : stack.use(await openStore(url, { clock: deps.clock, rng, log }));
		const sessions = new SessionRegistry();
		const bus = new InProcessBus();
		const of = { store, bus, clock: world.clock, rng, log, sessions };
		const telemetry = stack.use(new Telemetry({ ...of, periodMs: 15_000 }));
		const over = { ...of, telemetry, replicaId: 'replica-2', quarantine };
		const health = stack.use(new NodeHealthReconciler(monitorDeps(deps, over), { periodMs: 1e12 }));
		const second = { health, telemetry, sessions };
		const first = deps.sessions as SessionRegistry;
		return {
			world,
			store,
			second,
			async hold({ id: nodeId }, replica, epoch) {
				for (const registry of [first, sessions]) {
					const live = registry.get(nodeId);
					if (live !== undefined) registry.remove(live);
				}
				const times = { connectedAtMs: 1, leaseUntilMs: Number.MAX_SAFE_INTEGER, lostAtMs: null };
				const disconnectedAtMs = replica === undefined ? 1 : null;
				const row = {
					nodeId,
					replicaId: `replica-${replica ?? 1}`,
					epoch,
					instanceId: 'i',
					...times,
					disconnectedAtMs,
				};
				await deps.store.unit((tx) => tx.sessions.put(row));
				if (replica === undefined) return;
				const session = { nodeId, epoch, serial: '', command: () => true, close: () => {} };
				(replica === 1 ? first : sessions).add(session);
			},
			async bad(node, code = 79) {
				await world.store(node, { kind: 1, code: `xid:${code}`, raw: `NVRM: Xid: ${code}` });
				world.monitor.onRecord(node.id);
				health.monitor.onRecord(node.id);
			},
			async both(times = 3) {
				for (let time = 0; time < times; time += 1) await Promise.all([world.once(), health.once()]);
			},
			row: async (node) => present(await deps.store.read((tx) => tx.nodeHealth.get(node.id)), 'a row'),
			[Symbol.asyncDispose]: () => stack.disposeAsync(),
		};
	}

	/** A frame to the replica that has the session. */
	function say({ world, second }: Pair, node: NodeRow, replica: 1 | 2): void {
		if (replica === 1) {
			world.say(node);
			return;
		}
		const frame = fixtureFrame({ atMs: world.clock.now(), gpus: 2 });
		frame.simulated = false;
		second.telemetry.ingest.ingest(node.id, frame);
	}

	test('only the one that has the session judges, and the row follows the session', async () => {
		await using pair = await start();
		const { world, second } = pair;
		const node = await world.addWellNode();
		await pair.hold(node, 1, 1);
		await second.telemetry.start();
		await pair.both();
		expect(second.health.monitor.verdictsOf(node.id)).toEqual([]);
		// Past the silence that would make it UNKNOWN for whoever hears nothing.
		for (let period = 0; period < 5; period += 1) {
			world.clock.advance(15_000);
			say(pair, node, 1);
			await pair.both();
		}
		const before = await pair.row(node);
		expect(before.state).toBe('HEALTHY');
		await pair.hold(node, 2, 2);
		say(pair, node, 2);
		await pair.both();
		await pair.bad(node);
		say(pair, node, 2);
		await pair.both(4);
		expect(await pair.row(node)).toMatchObject({ state: 'UNHEALTHY', quarantinedAtMs: expect.any(Number) });
		// What the first still has in memory is old: its silence says nothing.
		for (let period = 0; period < 5; period += 1) {
			world.clock.advance(15_000);
			say(pair, node, 2);
			await pair.both();
		}
		expect((await pair.row(node)).state).toBe('UNHEALTHY');
		expect(world.monitor.verdictsOf(node.id)).toEqual([]);
	});

	test('both at once take no more nodes out of service than the breaker allows', async () => {
		await using pair = await start(1);
		const { world, second } = pair;
		const nodes: NodeRow[] = [];
		while (nodes.length < 6) nodes.push(await world.addWellNode());
		const at = (index: number): 1 | 2 => (index % 2 === 0 ? 1 : 2);
		for (const [index, node] of nodes.entries()) await pair.hold(node, at(index), 2);
		await second.telemetry.start();
		for (const [index, node] of nodes.entries()) say(pair, node, at(index));
		await pair.both();
		for (const node of nodes) await pair.bad(node);
		await pair.both(4);
		for (let period = 0; period < 5; period += 1) {
			world.clock.advance(15_000);
			for (const [index, node] of nodes.entries()) say(pair, node, at(index));
			await pair.both(4);
		}
		const rows = await Promise.all(nodes.map((node) => pair.row(node)));
		expect(rows.map(({ state }) => state)).toEqual(nodes.map(() => 'UNHEALTHY'));
		expect(rows.filter(({ quarantinedAtMs }) => quarantinedAtMs !== null)).toHaveLength(1);
		expect(world.monitor.isBreakerOpen || second.health.monitor.isBreakerOpen).toBe(true);
	});

	test('their counts add up to the fleet: each node on one of them, silent ones too, also after one is gone', async () => {
		await using pair = await start();
		const { world, second, store } = pair;
		const [mine, theirs, silent] = [await world.addWellNode(), await world.addWellNode(), await world.addWellNode()];
		await pair.hold(mine, 1, 2);
		await pair.hold(theirs, 2, 2);
		await pair.hold(silent, undefined, 2);
		await second.telemetry.start();
		const sum = () => {
			const all = [world.monitor.counts(), second.health.monitor.counts()];
			return all.map(({ states }) => Object.values(states).reduce((total, count) => total + count, 0));
		};
		for (let count = 0; count < 3; count += 1) {
			world.clock.advance(11_000);
			say(pair, mine, 1);
			say(pair, theirs, 2);
			await pair.both();
		}
		expect(sum().toSorted()).toEqual([1, 2]);
		expect(second.health.monitor.counts().states.HEALTHY).toBeGreaterThan(0);
		// Whoever counts the silent ones stops; the other takes it over.
		const isFirst = sum()[0] === 2;
		await store.unit((tx) => tx.leases.release('node-health-counts', isFirst ? 'replica-1' : 'replica-2'));
		world.clock.advance(11_000);
		await (isFirst ? second.health.once() : world.once());
		expect(sum()[isFirst ? 1 : 0]).toBe(2);
	});
});
