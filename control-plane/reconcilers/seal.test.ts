import { expect, test, vi } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { type LogFields, type Logger, silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { ed25519SignerFromSeed } from '../../pki/keys/signer.ts';
import { chainOrigin } from '../../pki/verify/chain-head.ts';
import { type AnchoredHead, MemoryAnchor } from '../app/audit/anchor.ts';
import { createAppendAudit } from '../app/audit/append.ts';
import type { AuditEvent } from '../app/audit/event.ts';
import { LOST_HEAD } from '../app/audit/former-heads.ts';
import { parseLeaf } from '../app/audit/leaf.ts';
import { AuditSequencer, type SequencerOptions } from '../app/audit/sequencer.ts';
import { InProcessBus } from '../bus/in-process.ts';
import { systemContext } from '../context.ts';
import { SqliteStore } from '../store/sqlite/store.ts';
import { SealReconciler } from './seal.ts';

/** Everything in virtual time: a store in memory, an anchor in memory, a signer that signs the same each time. */
class World {
	readonly clock = new VirtualClock();
	readonly store: SqliteStore;
	readonly anchor = new FailingAnchor();
	readonly errors: string[] = [];
	seal: SealReconciler | undefined;

	constructor(memory: Uint8Array | null = null) {
		this.store = new SqliteStore({ at: { memory }, clock: this.clock });
	}

	async open(more: Partial<SequencerOptions> = {}): Promise<SealReconciler> {
		const log: Logger = {
			...silentLogger,
			error: (message: string, fields?: LogFields) => this.errors.push(`${message}: ${String(fields?.error)}`),
		};
		const opening = SealReconciler.open({
			store: this.store,
			clock: this.clock,
			rng: systemRng,
			log,
			appendAudit: createAppendAudit({ clock: this.clock, rng: systemRng }),
			bus: new InProcessBus(),
			signer: ed25519SignerFromSeed(new Uint8Array(32).fill(1)),
			keyName: 'cluster.test/audit',
			origin: chainOrigin('cluster.test'),
			anchor: this.anchor,
			replicaId: 'r',
			...more,
		});
		this.seal = await this.run(opening);
		return this.seal;
	}

	/** Moves time in small steps until `promise` settles. */
	async run<T>(promise: Promise<T>, byMs = 0): Promise<T> {
		let done = false;
		const watched = promise.finally(() => {
			done = true;
		});
		watched.catch(() => {});
		for (let step = 0; !done && step < 1000; step += 1) {
			await settled();
			if (!done) this.clock.advance(byMs);
		}
		return await watched;
	}

	/** Lets `ms` pass. */
	async pass(ms: number): Promise<void> {
		for (let elapsed = 0; elapsed < ms; elapsed += 1) {
			this.clock.advance(1);
			await settled();
		}
	}

	async record(count = 1, more: Partial<AuditEvent> = {}): Promise<readonly string[]> {
		const append = createAppendAudit({ clock: this.clock, rng: systemRng });
		const ctx = systemContext('test', this.clock, silentLogger, 'c');
		const event = { action: 'a.b', target: 't', result: 'ok', reason: '', ...more } as const;
		const units = Array.from({ length: count }, () => this.store.unit((tx) => append(tx, ctx, event)));
		return await this.run(Promise.all(units));
	}

	get sizes(): number[] {
		return this.anchor.heads.map(({ size }) => size);
	}
}

class FailingAnchor extends MemoryAnchor {
	fails = false;

	override append(head: AnchoredHead): Promise<void> {
		return this.fails ? Promise.reject(new Error('no space left')) : super.append(head);
	}
}

async function settled(): Promise<void> {
	for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
}

test('a head is signed every second, and only when there is something new', async () => {
	const world = new World();
	await world.open();
	await world.record(3);
	await world.pass(900);
	expect(world.sizes).toEqual([]);
	await world.pass(200);
	expect(world.sizes).toEqual([3]);
	await world.pass(5000);
	expect(world.sizes).toEqual([3]);
	await world.record();
	await world.pass(1100);
	expect(world.sizes).toEqual([3, 4]);
});

test('calls that wait together share a head within 10 ms', async () => {
	const world = new World();
	const seal = await world.open();
	const ids = await world.record(5);
	const waits = ids.map((id) => seal.covered(id));
	await world.pass(9);
	await world.run(Promise.all(waits));
	expect(world.sizes).toEqual([5]);
});

test('a call that comes just when a round ends is served as soon as any other', async () => {
	const rounds = vi.spyOn(AuditSequencer.prototype, 'round');
	for (let turns = 0; turns < 10; turns += 1) {
		let want = () => {};
		const subscribe = (_topic: string, handler: () => void) => {
			want = handler;
			return () => {};
		};
		rounds.mockResolvedValue({ isBusy: false });
		const world = new World();
		await world.open({ bus: { subscribe, publish: () => {} } as unknown as SequencerOptions['bus'] });
		const { promise, resolve: end } = Promise.withResolvers<{ isBusy: boolean }>();
		rounds.mockClear().mockReturnValueOnce(promise);
		await world.pass(1000);
		expect(rounds).toHaveBeenCalledTimes(1);
		end({ isBusy: false });
		for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
		want();
		await settled();
		await world.pass(5);
		expect(rounds, `${turns} turns after the round`).toHaveBeenCalledTimes(2);
	}
});

test('under load there is a head for 256 records, and the next look is soon', async () => {
	const world = new World();
	await world.open();
	await world.record(600);
	await world.pass(1005);
	expect(world.sizes).toEqual([256, 512, 600]);
	await world.record();
	await world.pass(30);
	expect(world.sizes).toEqual([256, 512, 600, 601]);
});

test('while a head can’t be anchored privileged calls are refused, and then they work again', async () => {
	const world = new World();
	const seal = await world.open();
	seal.assertSigning();
	const [id = ''] = await world.record();
	world.anchor.fails = true;
	const waiting = seal.covered(id);
	// Of a change that is made, nobody is told that it was refused.
	const made = {
		reason: 'AUDIT_UNAVAILABLE',
		message: expect.stringMatching(/^the change was made and is on record, but/),
	};
	await expect(world.run(waiting, 1)).rejects.toMatchObject(made);
	expect(() => seal.assertSigning()).toThrow('no space left');
	await expect(seal.covered(id)).rejects.toMatchObject(made);
	expect(await world.store.read((tx) => tx.audit.lastHead())).toBeUndefined();
	expect(world.errors.join()).toContain('no space left');
	world.anchor.fails = false;
	await world.pass(1100);
	seal.assertSigning();
	await world.run(seal.covered(id), 1);
	expect(world.sizes).toEqual([1]);
});

test('a wait that nobody serves ends', async () => {
	const world = new World();
	const seal = await world.open();
	// Appended behind the sequencer's back as the record of a unit that never commits would be: it has no position.
	const waiting = seal.covered('0190c7a0-0000-7000-8000-000000000000');
	await expect(world.run(waiting, 1)).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
});

test('a restored backup is refused and said so, and the newer database works', async () => {
	const world = new World();
	await world.open();
	await world.record(2);
	await world.pass(1100);
	const backup = world.store.snapshot();
	await world.record(3);
	await world.pass(1100);
	expect(world.sizes).toEqual([2, 5]);

	const restored = new World(backup);
	restored.anchor.heads.push(...world.anchor.heads);
	const seal = await restored.open();
	expect(() => seal.assertSigning()).toThrow(/5 records was signed and the database has 2/);
	expect(restored.errors).toHaveLength(1);
	// Records go on being written, and none of them is signed into a second history.
	await restored.record(10);
	await restored.pass(5000);
	expect(restored.sizes).toEqual([2, 5]);
	const reopened = new World(restored.store.snapshot());
	reopened.anchor.heads.push(...world.anchor.heads);
	expect(() => reopened.seal?.assertSigning()).not.toThrow();
	await reopened.open();
	expect(() => reopened.seal?.assertSigning()).toThrow(/was signed/);

	const newer = new World(world.store.snapshot());
	newer.anchor.heads.push(...world.anchor.heads);
	(await newer.open()).assertSigning();
});

test('a restored backup whose anchors were removed is found by the head that a node kept, once and for all', async () => {
	const world = new World();
	const first = await world.open();
	await world.record(2);
	await world.pass(1100);
	const backup = world.store.snapshot();
	await world.record(3);
	await world.pass(1100);
	const kept = first.latest();

	const restored = new World(backup);
	const seal = await restored.open();
	seal.assertSigning();
	seal.witness(kept);
	const [id = ''] = await restored.record();
	await expect(restored.run(seal.covered(id), 1)).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	expect(() => seal.assertSigning()).toThrow(/5 records was signed and the database has \d/);
	expect(restored.errors).toHaveLength(1);
	expect(restored.anchor.newest()?.note).toBe(kept);
	// The next start knows it before any node connects.
	const again = new World(restored.store.snapshot());
	again.anchor.heads.push(...restored.anchor.heads);
	const stopped = await again.open();
	expect(() => stopped.assertSigning()).toThrow(/was signed/);
	// Nor is the head of the log that went back shown to any.
	expect(stopped.latest()).toBe('');
});

test('a log that grew past what it forgot is another history to a node', async () => {
	const world = new World();
	const first = await world.open();
	const backup = world.store.snapshot();
	await world.record(3);
	await world.pass(1100);
	const restored = new World(backup);
	const seal = await restored.open();
	await restored.record(7);
	await restored.pass(1100);
	expect(restored.sizes).toEqual([7]);
	seal.witness(first.latest());
	await restored.pass(20);
	expect(() => seal.assertSigning()).toThrow(/record 3 is not the one that was signed/);
});

test('heads that nodes kept change nothing while the log continues them, nor does anything we did not sign', async () => {
	const world = new World();
	const seal = await world.open();
	await world.record(2);
	await world.pass(1100);
	const older = seal.latest();
	await world.record(2);
	await world.pass(1100);
	const forged = older.replace('\n2\n', '\n9\n');
	for (const note of ['', older, seal.latest(), forged, 'rubbish']) seal.witness(note);
	await world.pass(2000);
	seal.assertSigning();
	expect(world.errors).toEqual([]);
	expect(world.sizes).toEqual([2, 4]);
});

test('a head that was anchored just before a crash is taken over by the next start', async () => {
	const world = new World();
	await world.open();
	await world.record(2);
	await world.pass(1100);
	await world.record(1);
	// The crash comes after the anchor and before the database: what was chained is there, the head is not.
	const { promise: never } = Promise.withResolvers<void>();
	const append = world.anchor.append.bind(world.anchor);
	world.anchor.append = (head) => append(head).then(() => never);
	await world.pass(1100);
	expect(world.sizes).toEqual([2, 3]);
	const next = new World(world.store.crash());
	next.anchor.heads.push(...world.anchor.heads);
	expect((await next.run(next.store.read((tx) => tx.audit.lastHead())))?.size).toBe(2);
	(await next.open()).assertSigning();
	expect((await next.run(next.store.read((tx) => tx.audit.lastHead())))?.size).toBe(3);
	expect(next.sizes).toEqual([2, 3]);
});

test('a larger head of a former log than the new one cites is put on record, once', async () => {
	const world = new World();
	const first = await world.open();
	await world.record(2);
	await world.pass(1100);
	const cited = first.latest();
	const backup = world.store.snapshot();
	const larger: string[] = [];
	for (const count of [3, 4]) {
		await world.record(count);
		await world.pass(1100);
		larger.push(first.latest());
	}
	const former = chainOrigin('cluster.test');
	const log2 = { origin: chainOrigin('cluster.test', 2), formerOrigins: [former] };
	const lostHeads = async (of: World) => {
		await of.pass(1100);
		const filter = {
			afterSeq: null,
			limit: 10,
			action: LOST_HEAD,
			target: '',
			organizations: null,
			newestFirst: false,
		};
		const rows = await of.run(of.store.read((tx) => tx.audit.query(filter)));
		return rows.map(({ leaf }) => parseLeaf(leaf)?.detail);
	};

	const restored = new World(backup);
	await restored.record(1, {
		action: 'audit.new-log',
		target: 'audit',
		detail: { former_origin: former, lost_head_size: 2 },
	});
	const seal = await restored.open(log2);
	const forged = cited.replace('\n2\n', '\n99\n');
	for (const note of [cited, forged]) seal.witness(note);
	expect(await lostHeads(restored)).toEqual([]);
	expect(restored.errors).toEqual([]);
	for (const note of larger) seal.witness(note);
	const [, largest = ''] = larger;
	const onRecord = [{ former_origin: former, lost_head_size: 9, lost_head: largest, on_record_size: 2 }];
	expect(await lostHeads(restored)).toEqual(onRecord);
	expect(restored.errors).toEqual([expect.stringMatching(/larger head of a former audit log/)]);
	// It is the new log that goes on: the former one ended.
	seal.assertSigning();
	for (const note of larger) seal.witness(note);
	expect(await lostHeads(restored)).toEqual(onRecord);

	const next = new World(restored.store.snapshot());
	next.anchor.heads.push(...restored.anchor.heads);
	const again = await next.open(log2);
	for (const note of larger) again.witness(note);
	expect(await lostHeads(next)).toEqual(onRecord);
	again.assertSigning();
});
