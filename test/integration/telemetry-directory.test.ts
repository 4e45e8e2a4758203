import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NodeDirectory } from '../../control-plane/app/telemetry/directory.ts';
import { fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { systemClock, yieldTurn } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { nodeRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';

/** What telemetry knows of nodes, on a real store whose hints get lost and whose reads fail. */
let folder: string;
let store: Store;
let failing: Store;
let directory: NodeDirectory;
let isAway: boolean;
let reads: number;
const clock = new VirtualClock();
const bus = new InProcessBus();

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-directory-'));
	store = await openStore(join(folder, 'store.db'), { clock: systemClock, rng: systemRng, log: silentLogger });
	await store.unit(function* (tx) {
		for (const id of ['n', 'm']) yield* tx.nodes.insert(nodeRow(id));
	});
	[isAway, reads] = [false, 0];
	failing = {
		dialect: store.dialect,
		unit: (plan) => store.unit(plan),
		read: (plan) => {
			reads += 1;
			return isAway ? Promise.reject(new Error('the store is away')) : store.read(plan);
		},
		check: () => store.check(),
		checkIsolation: () => store.checkIsolation(),
		now: () => store.now(),
		[Symbol.asyncDispose]: async () => {},
	};
	directory = new NodeDirectory({ store: failing, bus, clock, log: silentLogger });
	await directory.start();
});
afterEach(async () => {
	await directory[Symbol.asyncDispose]();
	await store[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

const put = (nodeId: string, gpus: number, receivedAtMs: number) =>
	store.unit((tx) =>
		tx.inventories.put({
			...{ nodeId, custody: 'platform', digest: `digest ${gpus}`, receivedAtMs },
			inventory: toBinary(InventorySchema, { ...fixtureInventory({ gpus }), digest: `${gpus}`.repeat(64) }),
		}),
	);
const gpusOf = (nodeId: string) => directory.get(nodeId)?.identities?.gpus.size;

test('the sweep reads an inventory that no hint told of, and only such', async () => {
	await put('n', 2, 1);
	clock.advance(30_000);
	await eventually('it is known', () => gpusOf('n') === 2);
	await put('n', 4, 2);
	clock.advance(30_000);
	await eventually('the newer one is known', () => gpusOf('n') === 4);
	const before = reads;
	clock.advance(30_000);
	await eventually('it swept', () => reads > before);
	await directory[Symbol.asyncDispose]();
	expect(reads).toBe(before + 1);
	expect(gpusOf('m')).toBeUndefined();
});

test('what a hint tells during the start is read after what the start read', async () => {
	await put('n', 2, 1);
	const [hasRead, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
	let reads = 0;
	const slow: Store = {
		...failing,
		read: async (plan) => {
			reads += 1;
			const isFirst = reads === 1;
			const result = await store.read(plan);
			if (isFirst) {
				hasRead.resolve();
				await release.promise;
			}
			return result;
		},
	};
	await using other = new NodeDirectory({ store: slow, bus, clock, log: silentLogger });
	const started = other.start();
	await hasRead.promise;
	await put('n', 4, 2);
	bus.publish({ topic: 'nodes.inventory', key: 'n' });
	clock.advance(20);
	for (let turns = 0; turns < 10; turns += 1) await yieldTurn(systemClock);
	expect(reads).toBe(1);
	release.resolve();
	await started;
	await eventually('the newer one is known', () => other.get('n')?.identities?.gpus.size === 4);
});

test('a node whose reading failed is read with the next hint, whosever it is', async () => {
	await put('n', 2, 1);
	isAway = true;
	const before = reads;
	bus.publish({ topic: 'nodes.inventory', key: 'n' });
	clock.advance(20);
	await eventually('it was tried', () => reads > before);
	isAway = false;
	bus.publish({ topic: 'nodes.changed', key: 'm' });
	clock.advance(20);
	await eventually('both were read', () => gpusOf('n') === 2);
});

test('a sweep of many nodes lets others have their turn between its pages', async () => {
	const ids = Array.from({ length: 1001 }, (_, index) => `node-${String(index).padStart(4, '0')}`);
	await store.unit(function* (tx) {
		for (const id of ids) yield* tx.nodes.insert(nodeRow(id));
	});
	// A store in this process answers without a turn of the loop: what comes between two reads is what the sweep let in.
	await using live = new NodeDirectory({ store, bus, clock: systemClock, log: silentLogger });
	const seen: number[] = [];
	let isSwept = false;
	const watching = (async () => {
		for (; !isSwept; await yieldTurn(systemClock)) seen.push(live.size);
	})();
	await live.reload();
	isSwept = true;
	await watching;
	expect(live.size).toBe(1003);
	expect(seen.filter((size) => size > 0 && size < 1003).length).toBeGreaterThan(0);
});
