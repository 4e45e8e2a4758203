import { expect, test } from 'vitest';
import type { Store } from '../../control-plane/store/port/store.ts';
import { HealthFactKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { HealthWorld } from './health-world.ts';

/** A store that answers nothing while it is `isOut`. */
function breakable(store: Store): { isOut: boolean; readonly store: Store } {
	const switched = {
		isOut: false,
		store: new Proxy(store, {
			get(target, key) {
				const value: unknown = Reflect.get(target, key);
				if (typeof value !== 'function') return value;
				return (...args: readonly unknown[]) =>
					switched.isOut ? Promise.reject(new Error('no database')) : Reflect.apply(value, target, args);
			},
		}),
	};
	return switched;
}

test('what only samples said while the database was away is judged and written when it is back', async () => {
	await using world = await HealthWorld.start();
	const database = breakable(world.api.deps.store);
	await world.restart({ store: database.store });
	const [node, other] = [await world.addWellNode(), await world.addWellNode()];
	await world.goOn(node, 30_000, { symbolErrors: 0 });
	database.isOut = true;
	let refused = 0;
	for (let passedMs = 0; passedMs < 60_000; passedMs += 3000) {
		world.clock.advance(3000);
		for (const one of [node, other]) world.say(one, { symbolErrors: one === node ? 200 : 0 });
		await world.look().catch(() => {
			refused += 1;
		});
	}
	expect(refused).toBeGreaterThan(0);
	expect(world.monitor.verdictsOf(node.id).length).toBeGreaterThan(0);
	// By another replica, say.
	await world.store(other, { kind: HealthFactKind.XID, code: 'xid:79', raw: 'NVRM: Xid: 79,' });
	database.isOut = false;
	await world.goOn(node, 30_000, { symbolErrors: 200 });
	expect(await world.api.deps.store.read((tx) => tx.nodeHealth.get(node.id))).toMatchObject({
		...{ state: 'UNHEALTHY', quarantineReason: expect.stringContaining('ib.symbol_errors') },
	});
	// And what was recorded meanwhile is heard: reading goes on.
	await world.goOn(other, 30_000);
	expect((await world.api.deps.store.read((tx) => tx.nodeHealth.get(other.id)))?.state).toBe('UNHEALTHY');
});
