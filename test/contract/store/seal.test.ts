import { expect, test } from 'vitest';
import { MemoryAnchor } from '../../../control-plane/app/audit/anchor.ts';
import { InProcessBus } from '../../../control-plane/bus/in-process.ts';
import { SealReconciler } from '../../../control-plane/reconcilers/seal.ts';
import { systemClock } from '../../../kit/clock.ts';
import { record, sequencerOptions, verifyStore } from './audit-world.ts';
import { eachStore, type StoreKind, type StoreUnderTest } from './stores.ts';

/** Takes the triggers away, as whoever owns the database can. */
async function dropTriggers(world: StoreUnderTest, kind: StoreKind): Promise<void> {
	if (kind.dialect === 'sqlite') {
		const triggers = await world.raw(`SELECT name FROM sqlite_schema WHERE type = 'trigger'`);
		for (const { name } of triggers) await world.raw(`DROP TRIGGER ${String(name)}`);
		return;
	}
	const triggers = await world.raw(
		`SELECT tgname, tgrelid::regclass::text AS "table" FROM pg_trigger WHERE NOT tgisinternal`,
	);
	for (const { tgname, table } of triggers) await world.raw(`DROP TRIGGER ${String(tgname)} ON ${String(table)}`);
}

/** A log of `count` records whose last is covered by a head. */
async function sealed(world: StoreUnderTest, count: number): Promise<MemoryAnchor> {
	const anchor = new MemoryAnchor();
	await using seal = await SealReconciler.open(sequencerOptions(world.store, systemClock, { anchor }));
	let last = '';
	for (let index = 1; index <= count; index += 1) last = await record(world.store, systemClock, `nodes/${index}`);
	await seal.covered(last);
	return anchor;
}

const LEAF_OF = (seq: number) => `(SELECT ord FROM audit_chain WHERE seq = ${seq})`;

eachStore('sealing', (kind) => {
	test('records are chained, signed and verified from outside', async () => {
		await using world = await kind.create();
		const anchor = new MemoryAnchor();
		await using seal = await SealReconciler.open(sequencerOptions(world.store, systemClock, { anchor }));
		expect(seal.latest()).toBe('');
		const ids = await Promise.all([1, 2, 3, 4].map((index) => record(world.store, systemClock, `nodes/${index}`)));
		await Promise.all(ids.map((id) => seal.covered(id)));
		expect(seal.latest()).toBe(anchor.newest()?.note);
		expect(await world.store.read((tx) => tx.audit.lastHead())).toEqual(anchor.newest());
		expect(await verifyStore(world.store, anchor)).toEqual({ kind: 'verified', headSize: 4, size: 4 });
		// One that is covered long since needs no new head.
		const heads = anchor.heads.length;
		await seal.covered(ids[0] ?? '');
		expect(anchor.heads).toHaveLength(heads);
		await expect(seal.covered('nobody')).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	});

	test('a stop is no error in the log, and nothing is taken after it', async () => {
		await using world = await kind.create();
		const errors: string[] = [];
		const options = sequencerOptions(world.store, systemClock, {});
		const log = { ...options.log, error: (message: string) => void errors.push(message) };
		const seal = await SealReconciler.open({ ...options, log });
		await seal.covered(await record(world.store, systemClock, 'nodes/1'));
		await seal[Symbol.asyncDispose]();
		expect(errors).toEqual([]);
		expect(() => seal.assertSigning()).toThrow('shutting down');
		await expect(seal.covered('nodes/2')).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	});

	test('the log goes on after a restart', async () => {
		await using world = await kind.create();
		const anchor = await sealed(world, 3);
		{
			await using seal = await SealReconciler.open(sequencerOptions(world.store, systemClock, { anchor }));
			seal.assertSigning();
			expect(seal.latest()).toBe(anchor.newest()?.note);
			await seal.covered(await record(world.store, systemClock, 'nodes/4'));
		}
		expect(await verifyStore(world.store, anchor)).toEqual({ kind: 'verified', headSize: 4, size: 4 });
	});

	test('a change behind the triggers is found, whatever it is', async () => {
		const tampering: readonly (readonly [sql: string, at: number])[] = [
			[`UPDATE audit_leaves SET leaf = (SELECT leaf FROM audit_leaves LIMIT 1) WHERE ord = ${LEAF_OF(3)}`, 3],
			['DELETE FROM audit_chain WHERE seq = 2', 2],
			['DELETE FROM audit_chain WHERE seq > 3', 4],
			['DELETE FROM audit_chain', 1],
			[
				`UPDATE audit_chain SET seq = 1002 WHERE seq = 2; UPDATE audit_chain SET seq = 2 WHERE seq = 3;
				UPDATE audit_chain SET seq = 3 WHERE seq = 1002`,
				2,
			],
		];
		for (const [sql, at] of tampering) {
			await using world = await kind.create();
			const anchor = await sealed(world, 5);
			await expect(world.raw(sql.split(';')[0] ?? '')).rejects.toThrow('GPUAAS_AUDIT_APPEND_ONLY');
			await dropTriggers(world, kind);
			await world.raw(sql);
			expect(await verifyStore(world.store, anchor), sql).toMatchObject({ kind: 'tampered', at });
		}
	});

	test('a record that was put in at the end is found, though the triggers let it pass', async () => {
		await using world = await kind.create();
		const anchor = await sealed(world, 5);
		await world.raw(
			`INSERT INTO audit_leaves (id, leaf, action, target, at_ms) SELECT 'forged', leaf, action, target, at_ms FROM audit_leaves
				WHERE ord = ${LEAF_OF(5)}`,
		);
		await world.raw(
			`INSERT INTO audit_chain (seq, ord, chain, action, target) SELECT 6, (SELECT ord FROM audit_leaves WHERE id = 'forged'),
				chain, action, target FROM audit_chain WHERE seq = 5`,
		);
		expect(await verifyStore(world.store, anchor)).toMatchObject({ kind: 'tampered', at: 6 });
	});

	test('a database that forgot its newest records is not continued', async () => {
		await using world = await kind.create();
		const anchor = await sealed(world, 5);
		await dropTriggers(world, kind);
		for (const sql of [
			'DELETE FROM audit_heads',
			'DELETE FROM audit_chain WHERE seq > 3',
			'DELETE FROM audit_leaves WHERE ord NOT IN (SELECT ord FROM audit_chain)',
		])
			await world.raw(sql);
		const heads = anchor.heads.length;
		await using seal = await SealReconciler.open(sequencerOptions(world.store, systemClock, { anchor }));
		expect(() => seal.assertSigning()).toThrow(/5 records was signed and the database has 3/);
		// Not even once it has grown past what it forgot.
		for (let index = 0; index < 4; index += 1) await record(world.store, systemClock, `nodes/${index}`);
		await expect(seal.covered('any')).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
		await using again = await SealReconciler.open(sequencerOptions(world.store, systemClock, { anchor }));
		expect(() => again.assertSigning()).toThrow(/was signed/);
		expect(anchor.heads).toHaveLength(heads);
	});

	test('a log with another history is not continued', async () => {
		await using world = await kind.create();
		await using other = await kind.create();
		const anchor = await sealed(world, 3);
		await sealed(other, 5);
		await using seal = await SealReconciler.open(sequencerOptions(other.store, systemClock, { anchor }));
		expect(() => seal.assertSigning()).toThrow(/record 3 is not the one that was signed/);
		const options = sequencerOptions(world.store, systemClock, { anchor, origin: 'elsewhere.test/audit-chain/v1' });
		await using elsewhere = await SealReconciler.open(options);
		expect(() => elsewhere.assertSigning()).toThrow(/of another log: cluster.test/);
	});

	if (kind.dialect === 'sqlite') return;

	test('of two replicas one signs, the other follows and takes over', async () => {
		await using world = await kind.create();
		const second = await world.open();
		const anchors = [new MemoryAnchor(), new MemoryAnchor()] as const;
		// One bus, as NATS would be.
		const bus = new InProcessBus();
		const options = [
			sequencerOptions(world.store, systemClock, { bus, anchor: anchors[0], replicaId: 'replica-1' }),
			sequencerOptions(second, systemClock, { bus, anchor: anchors[1], replicaId: 'replica-2' }),
		] as const;
		const first = await SealReconciler.open(options[0]);
		await using follower = await SealReconciler.open(options[1]);
		const write = (index: number) => record(index % 2 === 0 ? world.store : second, systemClock, `nodes/${index}`);
		const ids = await Promise.all(Array.from({ length: 20 }, (_, index) => write(index)));
		await Promise.all(ids.flatMap((id) => [first.covered(id), follower.covered(id)]));
		expect(anchors[1].newest()).toEqual(anchors[0].newest());
		expect(await verifyStore(second, anchors[1])).toEqual({ kind: 'verified', headSize: 20, size: 20 });
		await first[Symbol.asyncDispose]();
		await follower.covered(await write(21));
		expect(await verifyStore(second, anchors[1])).toEqual({ kind: 'verified', headSize: 21, size: 21 });
		expect(anchors[0].newest()?.size).toBe(20);
	});
});
