import { expect, test } from 'vitest';
import { createAppendAudit } from '../../../control-plane/app/audit/append.ts';
import { parseLeaf } from '../../../control-plane/app/audit/leaf.ts';
import { correctCounters, driftIn } from '../../../control-plane/app/quotas/counters.ts';
import { releaseQuota, reserveQuota, takeQuota, type Wish } from '../../../control-plane/app/quotas/reserve.ts';
import { QuotaCounterReconciler } from '../../../control-plane/reconcilers/quota-counters.ts';
import { QUOTA_KINDS, type QuotaKind } from '../../../control-plane/store/port/quotas.ts';
import type { Store, Tx } from '../../../control-plane/store/port/store.ts';
import type { Plan } from '../../../control-plane/store/port/unit.ts';
import { systemClock } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { silentLogger } from '../../../kit/log.ts';
import { scopeRow } from './rows.ts';
import { eachStore } from './stores.ts';

const ORG = 'organizations/acme';
const LAB = `${ORG}/departments/lab`;
const [A, B] = [`${ORG}/projects/a`, `${ORG}/projects/b`];

/** acme > lab > a; b stands in acme itself. Beside it another organization with the same names. */
function* insertTrees(tx: Tx): Plan<void> {
	yield* tx.scopes.insert(scopeRow(ORG, '/acme/'));
	yield* tx.scopes.insert(scopeRow(LAB, '/acme/d.lab/', { parent: ORG }));
	yield* tx.scopes.insert(scopeRow(A, '/acme/d.lab/p.a/', { parent: LAB }));
	yield* tx.scopes.insert(scopeRow(B, '/acme/p.b/', { parent: ORG }));
	yield* tx.scopes.insert(scopeRow('organizations/rival', '/rival/'));
	yield* tx.scopes.insert(scopeRow('organizations/rival/projects/a', '/rival/p.a/', { parent: 'organizations/rival' }));
}

function wish(scope: string, holder: string, amount = 1, kind: QuotaKind = 'tasks'): Wish {
	return { kind, holder, scope, organization: scope.split('/')[1] ?? '', amount, nowMs: 1 };
}

/** `scope used reserved`, of tasks. */
async function shown(store: Store): Promise<readonly string[]> {
	const rows = await store.read((tx) => tx.quotas.at([ORG, LAB, A, B]));
	return rows
		.filter(({ kind }) => kind === 'tasks')
		.map(({ scope, used, reserved }) => `${scope} ${used} ${reserved}`)
		.toSorted();
}

function reconciler(store: Store, replicaId: string) {
	const [clock, rng, log] = [systemClock, systemRng, silentLogger];
	const appendAudit = createAppendAudit({ clock, rng });
	const deps = { store, clock, rng, log, replicaId, appendAudit };
	return new QuotaCounterReconciler(deps as never, { periodMs: 3_600_000 });
}

eachStore('counters of quotas', (kind) => {
	test('that are right are left alone, those that are too high, too low or missing are made right', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTrees);
		await store.unit((tx) => takeQuota(tx, wish(A, '1', 2)));
		await store.unit((tx) => reserveQuota(tx, wish(A, '2'), 100));
		await store.unit((tx) => takeQuota(tx, wish(B, '3')));
		await store.unit((tx) => takeQuota(tx, wish('organizations/rival/projects/a', '9', 7)));
		const right = [`${LAB} 2 1`, `${ORG} 3 1`, `${A} 2 1`, `${B} 1 0`].toSorted();
		expect(await shown(store)).toEqual(right);
		await using ours = reconciler(store, 'replica-1');
		await ours.once();
		expect([...ours.corrected]).toEqual(QUOTA_KINDS.map((each) => [each, 0]));

		// Too high, too low, one for the other, and a reservation whose counters were never made.
		await store.unit(function* (tx) {
			yield* tx.quotas.add([ORG], 'tasks', { used: 5, reserved: 0 });
			yield* tx.quotas.add([LAB], 'tasks', { used: -2, reserved: 0 });
			yield* tx.quotas.add([A], 'tasks', { used: 1, reserved: -1 });
			const { nowMs, ...row } = wish(B, 'k', 1, 'api_keys');
			yield* tx.quotas.insertReservation({ ...row, state: 'committed', createdAtMs: nowMs, expiresAtMs: null });
		});
		expect((await store.read((tx) => driftIn(tx, 'acme'))).length).toBe(5);
		expect(await store.read((tx) => driftIn(tx, 'rival'))).toEqual([]);
		await ours.once();
		expect(await shown(store)).toEqual(right);
		expect(Object.fromEntries(ours.corrected)).toEqual({ nodes: 0, gpus: 0, terminals: 0, tasks: 3, api_keys: 2 });
		const keys = (await store.read((tx) => tx.quotas.at([ORG, B]))).filter((row) => row.kind === 'api_keys');
		expect(keys.map(({ used }) => used)).toEqual([1, 1]);
		expect(await audited(store)).toEqual(
			[
				`${LAB}/quotas/tasks 0 -> 2, 1 -> 1`,
				`${ORG}/quotas/api_keys 0 -> 1, 0 -> 0`,
				`${ORG}/quotas/tasks 8 -> 3, 1 -> 1`,
				`${A}/quotas/tasks 3 -> 2, 0 -> 1`,
				`${B}/quotas/api_keys 0 -> 1, 0 -> 0`,
			].toSorted(),
		);
		await ours.once();
		expect(await audited(store)).toHaveLength(5);
	});

	test('two who correct at once, while others take and give back, lose nothing and correct once', async () => {
		await using world = await kind.create();
		await world.store.unit(insertTrees);
		// On SQLite one process writes.
		await using second = kind.dialect === 'postgres' ? await world.open() : undefined;
		const stores = [world.store, second ?? world.store] as const;
		for (let round = 0; round < 10; round += 1) {
			const by = { used: round % 2 === 0 ? 3 : 0, reserved: round % 2 === 0 ? 0 : 2 };
			await world.store.unit(function* (tx) {
				yield* tx.quotas.lock('acme', [ORG], 'tasks');
				yield* tx.quotas.add([ORG], 'tasks', by);
			});
			const correct = (store: Store) => store.unit((tx) => correctCounters(tx, 'acme', 'tasks'));
			const [first, other] = await Promise.all([
				correct(stores[0]),
				correct(stores[1]),
				stores[1].unit((tx) => takeQuota(tx, wish(A, `a${round}`))),
				stores[0].unit((tx) => takeQuota(tx, wish(B, `b${round}`))),
				stores[1].unit((tx) => releaseQuota(tx, 'tasks', [`a${round - 1}`])),
			]);
			expect(first.length + other.length, `round ${round}`).toBe(1);
			expect(await world.store.read((tx) => driftIn(tx, 'acme')), `round ${round}`).toEqual([]);
		}
		expect(await shown(world.store)).toEqual([`${LAB} 1 0`, `${ORG} 11 0`, `${A} 1 0`, `${B} 10 0`].toSorted());
	});

	test('an organization that can’t be compared keeps none of the others from it', async () => {
		await using world = await kind.create();
		await world.store.unit(insertTrees);
		await world.store.unit((tx) => takeQuota(tx, wish(A, '1')));
		await world.store.unit((tx) => takeQuota(tx, wish('organizations/rival/projects/a', '2')));
		await world.store.unit((tx) => tx.quotas.add(['organizations/rival'], 'tasks', { used: 4, reserved: 0 }));
		// The store stands as it is, but for the counters of the first organization.
		const read = <Rows>(plan: (tx: Tx) => Plan<Rows>) =>
			world.store.read((tx) =>
				plan({ ...tx, quotas: { ...tx.quotas, counters: (id) => broken(id, () => tx.quotas.counters(id)) } }),
			);
		const store = new Proxy(world.store, {
			get: (of, name) => (name === 'read' ? read : bound(of, Reflect.get(of, name))),
		});
		await using ours = reconciler(store, 'replica-1');
		await ours.once();
		expect(ours.corrected.get('tasks')).toBe(1);
	});

	test('one replica compares, the other only once that one has gone', async () => {
		await using world = await kind.create();
		await world.store.unit(insertTrees);
		await world.store.unit((tx) => takeQuota(tx, wish(A, '1')));
		await using first = reconciler(world.store, 'replica-1');
		await using other = reconciler(world.store, 'replica-2');
		await first.once();
		await world.store.unit((tx) => tx.quotas.add([A], 'tasks', { used: 4, reserved: 0 }));
		await other.once();
		expect(other.corrected.get('tasks')).toBe(0);
		await first.once();
		expect(first.corrected.get('tasks')).toBe(1);
	});
});

function* broken<Rows>(organization: string, counters: () => Plan<Rows>): Plan<Rows> {
	if (organization === 'acme') throw new Error('its rows can not be read');
	return yield* counters();
}

function bound(of: Store, value: unknown): unknown {
	return typeof value === 'function' ? value.bind(of) : value;
}

async function audited(store: Store): Promise<readonly string[]> {
	const rows = await store.read((tx) => tx.audit.listUnchained(1000));
	return rows
		.map(({ leaf }) => parseLeaf(leaf))
		.map((record) => {
			expect(record).toMatchObject({ action: 'quotas.correct', organization: 'acme', result: 'ok' });
			const { used_was, used, reserved_was, reserved } = record?.detail ?? {};
			return `${record?.target} ${used_was} -> ${used}, ${reserved_was} -> ${reserved}`;
		})
		.toSorted();
}
