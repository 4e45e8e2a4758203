import fc from 'fast-check';
import { expect, test } from 'vitest';
import { moveQuotas } from '../../../control-plane/app/quotas/move.ts';
import {
	commitQuota,
	extendQuota,
	releaseQuota,
	reserveQuota,
	takeQuota,
	type Wish,
} from '../../../control-plane/app/quotas/reserve.ts';
import { QUOTA_KINDS, type QuotaKind } from '../../../control-plane/store/port/quotas.ts';
import type { Store, Tx } from '../../../control-plane/store/port/store.ts';
import type { Plan } from '../../../control-plane/store/port/unit.ts';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { scopeRow } from './rows.ts';
import { eachStore } from './stores.ts';

const ORG = 'organizations/acme';
const LAB = `${ORG}/departments/lab`;
const WEB = `${ORG}/departments/web`;
const PROJECTS = ['a', 'b', 'c', 'd'].map((id) => `${ORG}/projects/${id}`);
const [A = '', B = '', C = '', D = ''] = PROJECTS;

/** acme > lab (a, b), web (c); d stands in acme itself. */
function* insertTree(tx: Tx): Plan<void> {
	yield* tx.scopes.insert(scopeRow(ORG, '/acme/'));
	for (const [name, path] of [
		[LAB, '/acme/d.lab/'],
		[WEB, '/acme/d.web/'],
		[A, '/acme/d.lab/p.a/'],
		[B, '/acme/d.lab/p.b/'],
		[C, '/acme/d.web/p.c/'],
		[D, '/acme/p.d/'],
	] as const) {
		const parent = path.includes('d.lab/p') ? LAB : path.includes('d.web/p') ? WEB : ORG;
		yield* tx.scopes.insert(scopeRow(name, path, { parent }));
	}
}

function wish(scope: string, holder: string, amount = 1, kind: QuotaKind = 'tasks'): Wish {
	return { kind, holder, scope, organization: 'acme', amount, nowMs: 1 };
}

async function limit(store: Store, scope: string, limitMax: number | null, kind: QuotaKind = 'tasks'): Promise<void> {
	await store.unit(function* (tx) {
		yield* tx.quotas.lock('acme', [ORG], kind);
		if (scope !== ORG) yield* tx.quotas.lock('acme', [scope], kind);
		yield* tx.quotas.setLimit(scope, kind, { limitMax, changedAtMs: 1, changedBy: 'ada' });
	});
}

async function move(store: Store, name: string, parent: string): Promise<void> {
	await store.unit(function* (tx) {
		const scope = present(yield* tx.scopes.get(name), 'it is there');
		const to = present(yield* tx.scopes.get(parent), 'it is there');
		yield* moveQuotas(tx, scope, to);
		const path = `${to.path}p.${scope.id}/`;
		yield* tx.scopes.update(name, { parent, path });
	});
}

async function outcome(work: Promise<unknown>): Promise<'ok' | 'full'> {
	try {
		await work;
		return 'ok';
	} catch (error) {
		if (error instanceof GpuaasError && error.reason === 'QUOTA_EXCEEDED') return 'full';
		throw error;
	}
}

/** At every scope the counters are the sums over the reservations at and below it. */
async function assertSums(store: Store): Promise<void> {
	await store.read(function* (tx) {
		const scopes = yield* tx.scopes.getMany([ORG, LAB, WEB, ...PROJECTS]);
		const held = yield* tx.quotas.listReservations({ kind: '', holder: '' }, 10_000);
		const rows = yield* tx.quotas.at(scopes.map(({ name }) => name));
		const pathOf = new Map(scopes.map(({ name, path }) => [name, path]));
		for (const scope of scopes) {
			for (const kind of QUOTA_KINDS) {
				const below = held.filter((row) => row.kind === kind && (pathOf.get(row.scope) ?? '').startsWith(scope.path));
				const sum = (state: string) =>
					below.filter((row) => row.state === state).reduce((total, { amount }) => total + amount, 0);
				const row = rows.find((one) => one.scope === scope.name && one.kind === kind);
				const shown = { used: row?.used ?? 0, reserved: row?.reserved ?? 0 };
				expect(shown, `${scope.name} ${kind}`).toEqual({ used: sum('committed'), reserved: sum('reserved') });
			}
		}
	});
}

eachStore('quotas', (kind) => {
	test('each level must have room, and the refusal names the nearest one that has none', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTree);
		await limit(store, ORG, 3);
		await limit(store, LAB, 2);
		await store.unit((tx) => takeQuota(tx, wish(A, '1')));
		await store.unit((tx) => takeQuota(tx, wish(B, '2')));
		const refused = store.unit((tx) => takeQuota(tx, wish(A, '3')));
		await expect(refused).rejects.toMatchObject({
			code: 'RESOURCE_EXHAUSTED',
			reason: 'QUOTA_EXCEEDED',
			metadata: { scope: LAB, kind: 'tasks', limit: '2', used: '2', reserved: '0', requested: '1' },
		});
		await store.unit((tx) => takeQuota(tx, wish(C, '4')));
		await expect(store.unit((tx) => takeQuota(tx, wish(D, '5')))).rejects.toMatchObject({ metadata: { scope: ORG } });
		// Of two that have none the nearest.
		await expect(store.unit((tx) => takeQuota(tx, wish(B, '6')))).rejects.toMatchObject({ metadata: { scope: LAB } });
		// Another kind is another matter.
		await store.unit((tx) => takeQuota(tx, wish(D, '5', 9, 'gpus')));
		expect(await store.read((tx) => tx.quotas.totals())).toEqual([
			{ kind: 'gpus', used: 9, reserved: 0, full: 0 },
			{ kind: 'tasks', used: 3, reserved: 0, full: 1 },
		]);
		await assertSums(store);
	});

	test('a counter that is too low keeps nothing from ending', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTree);
		await store.unit((tx) => takeQuota(tx, wish(A, '1', 3)));
		await store.unit((tx) => reserveQuota(tx, wish(A, '2', 2), 100));
		await store.unit((tx) => tx.quotas.add([A, ORG], 'tasks', { used: -2, reserved: -1 }));
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['1', '2']));
		expect(await store.read((tx) => tx.quotas.at([A, LAB, ORG]))).toMatchObject(
			[A, LAB, ORG].map(() => ({ used: 0, reserved: 0 })),
		);
		await assertSums(store);
	});

	test('a reservation is committed once, given back once, and ends by itself', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTree);
		await limit(store, ORG, 2);
		await store.unit((tx) => reserveQuota(tx, wish(A, '1'), 100));
		expect(await outcome(store.unit((tx) => reserveQuota(tx, wish(A, '2', 2), 100)))).toBe('full');
		await store.unit((tx) => commitQuota(tx, wish(A, '1')));
		await store.unit((tx) => commitQuota(tx, wish(A, '1')));
		const [row] = await store.read((tx) => tx.quotas.at([ORG]));
		expect(row).toMatchObject({ used: 1, reserved: 0 });
		await store.unit((tx) => reserveQuota(tx, wish(B, '3'), 100));
		expect((await store.read((tx) => tx.quotas.listExpired(99, 10))).length).toBe(0);
		expect((await store.read((tx) => tx.quotas.listExpired(100, 10))).map(({ holder }) => holder)).toEqual(['3']);
		// It ended and another took the room: then it can't be committed any more.
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['3']));
		await store.unit((tx) => takeQuota(tx, wish(C, '4')));
		expect(await store.unit((tx) => commitQuota(tx, wish(B, '3')))).toBe(false);
		expect(await outcome(store.unit((tx) => extendQuota(tx, wish(B, '3'), 500)))).toBe('full');
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['1', '4', 'nobody']));
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['1']));
		// Room again.
		await store.unit((tx) => extendQuota(tx, wish(B, '3'), 400));
		await store.unit((tx) => extendQuota(tx, wish(B, '3'), 500));
		expect((await store.read((tx) => tx.quotas.listExpired(500, 10))).map(({ holder }) => holder)).toEqual(['3']);
		await assertSums(store);
	});

	test('a limit below what is used ends nothing and lets nothing in', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTree);
		for (const holder of ['1', '2', '3']) await store.unit((tx) => takeQuota(tx, wish(A, holder)));
		await limit(store, LAB, 1);
		expect(await outcome(store.unit((tx) => takeQuota(tx, wish(B, '4'))))).toBe('full');
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['1', '2']));
		expect(await outcome(store.unit((tx) => takeQuota(tx, wish(B, '4'))))).toBe('full');
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['3']));
		await store.unit((tx) => takeQuota(tx, wish(B, '4')));
		await assertSums(store);
	});

	test('what moves counts where it comes to, and only where there is room', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTree);
		await limit(store, WEB, 2);
		await limit(store, ORG, 4);
		await store.unit((tx) => takeQuota(tx, wish(A, '1', 2)));
		await store.unit((tx) => takeQuota(tx, wish(C, '2')));
		expect(await outcome(move(store, A, WEB))).toBe('full');
		await assertSums(store);
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['2']));
		await move(store, A, WEB);
		await assertSums(store);
		// The organization's own limit is not asked: nothing is added there.
		await limit(store, ORG, 1);
		await move(store, A, ORG);
		await assertSums(store);
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['1']));
		await assertSums(store);
		const left = (await store.read((tx) => tx.quotas.at([ORG, LAB, WEB]))).filter((row) => row.kind === 'tasks');
		expect(left.map(({ used }) => used)).toEqual([0, 0, 0]);
	});

	test('a tenant takes and gives back in units of its own, and never for another', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(insertTree);
		await limit(store, ORG, 1);
		const acme = { tenancy: { organizations: ['acme'], principalId: 'ada' } };
		await store.unit((tx) => reserveQuota(tx, wish(A, '1'), 100), acme);
		expect(await outcome(store.unit((tx) => takeQuota(tx, wish(B, '2')), acme))).toBe('full');
		await store.unit((tx) => commitQuota(tx, wish(A, '1')), acme);
		await store.unit((tx) => releaseQuota(tx, 'tasks', ['1']), acme);
		await assertSums(store);
		if (kind.dialect === 'sqlite') return;
		const rival = { tenancy: { organizations: ['rival'], principalId: 'eve' } };
		await expect(store.unit((tx) => takeQuota(tx, wish(A, '3')), rival)).rejects.toThrow();
		await assertSums(store);
	});

	test('of two replicas that take the last one at once exactly one gets it', async () => {
		await using world = await kind.create();
		await world.store.unit(insertTree);
		// On SQLite one process writes.
		await using second = kind.dialect === 'postgres' ? await world.open() : undefined;
		const stores = [world.store, second ?? world.store];
		for (let round = 1; round <= 12; round += 1) {
			await limit(world.store, ORG, round);
			const outcomes = await Promise.all(
				Array.from({ length: 6 }, (_, index) => {
					const store = present(stores[index % 2], 'two stores');
					const scope = present(PROJECTS[index % PROJECTS.length], 'a project');
					return outcome(store.unit((tx) => takeQuota(tx, wish(scope, `${round} ${index}`))));
				}),
			);
			expect(outcomes.filter((one) => one === 'ok')).toHaveLength(1);
		}
		await assertSums(world.store);
	});

	test('whatever happens at once, no level is above its limit and every sum is that of its leaves', async () => {
		await using world = await kind.create();
		await world.store.unit(insertTree);
		await using second = kind.dialect === 'postgres' ? await world.open() : undefined;
		const stores = [world.store, second ?? world.store] as const;
		const LIMITS = new Map([
			[ORG, 7],
			[LAB, 4],
			[WEB, 3],
			[A, 2],
		]);
		for (const [scope, max] of LIMITS) await limit(world.store, scope, max);
		const holders = Array.from({ length: 10 }, (_, index) => `h${index}`);
		const step = fc.record({
			what: fc.constantFrom('take', 'reserve', 'commit', 'release', 'release', 'move'),
			scope: fc.constantFrom(...PROJECTS),
			holder: fc.constantFrom(...holders),
			amount: fc.integer({ min: 1, max: 2 }),
			to: fc.constantFrom(ORG, LAB, WEB),
			replica: fc.constantFrom(0 as const, 1 as const),
		});
		const run = async (store: Store, { what, scope, holder, amount, to }: StepOf<typeof step>): Promise<unknown> => {
			const asked = wish(scope, holder, amount);
			const attempt = () => {
				switch (what) {
					case 'take':
						return store.unit((tx) => takeQuota(tx, asked));
					case 'reserve':
						return store.unit((tx) => reserveQuota(tx, asked, 100));
					case 'commit':
						return store.unit((tx) => commitQuota(tx, asked));
					case 'release':
						return store.unit((tx) => releaseQuota(tx, 'tasks', [holder]));
					default:
						return move(store, scope, to);
				}
			};
			return await attempt().catch((error: unknown) => {
				// A holder that has something already, or a level without room.
				if (error instanceof GpuaasError && /^(QUOTA_EXCEEDED|ALREADY_EXISTS)$/.test(error.reason)) return;
				throw error;
			});
		};
		await fc.assert(
			fc.asyncProperty(fc.array(fc.array(step, { minLength: 1, maxLength: 5 }), { maxLength: 12 }), async (rounds) => {
				for (const steps of rounds) {
					await Promise.all(steps.map((one) => run(stores[one.replica], one)));
					for (const { scope, limitMax, used, reserved } of await world.store.read((tx) =>
						tx.quotas.at([...LIMITS.keys()]),
					))
						expect(used + reserved, scope).toBeLessThanOrEqual(limitMax ?? Number.POSITIVE_INFINITY);
				}
				await assertSums(world.store);
			}),
			{ numRuns: kind.dialect === 'sqlite' ? 60 : 15 },
		);
	});
});

type StepOf<T> = T extends fc.Arbitrary<infer Value> ? Value : never;
