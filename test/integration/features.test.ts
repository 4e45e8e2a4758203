import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openFeatureGates } from '../../control-plane/adapters/features/open.ts';
import type { FeatureGates } from '../../control-plane/app/features/gates.ts';
import { FEATURE_RULES_MAX } from '../../control-plane/app/features/set.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { FeatureService } from '../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';

let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start();
	await world.addPrincipal('user', 'tenant.developer', 'organizations/acme');
});
afterAll(() => world[Symbol.asyncDispose]());

const feature = 'quota-warnings';
const scope = 'organizations/acme';
const acme = { scopes: [scope, 'platform'], key: scope };
const client = () => world.client(FeatureService, world.operatorKey);

/** Another replica: its own bus, so that no hint reaches it, and its own time. */
async function replica(
	close: AsyncDisposableStack,
	store: Pick<Store, 'read'> = world.deps.store,
): Promise<{ readonly gates: FeatureGates; readonly clock: VirtualClock; isOn(): Promise<boolean> }> {
	const clock = new VirtualClock();
	const deps = { store, clock, bus: new InProcessBus(), log: silentLogger };
	const gates = await openFeatureGates(deps, `replica ${domains++}`, close);
	return { gates, clock, isOn: () => gates.isOn(feature, acme) };
}
let domains = 0;

describe('a feature', () => {
	test('is changed at one replica and counts at the other within a second, without any hint', async () => {
		await using close = new AsyncDisposableStack();
		const { clock, isOn } = await replica(close);
		expect(await isOn()).toBe(false);
		const { rule } = await client().setFeature({ feature, scope: 'platform', percentage: 100 });
		expect(await isOn()).toBe(false);
		clock.advance(1000);
		await eventually('the other replica sees it', isOn);
		const { rule: own } = await client().setFeature({ feature, scope, percentage: 0, reason: 'too loud' });
		clock.advance(1000);
		await eventually('the rule of the organization counts more', async () => !(await isOn()));
		await client().unsetFeature({ feature, scope, etag: own?.etag ?? '' });
		clock.advance(1000);
		await eventually('and no more', isOn);
		await client().unsetFeature({ feature, scope: 'platform', etag: rule?.etag ?? '' });
		clock.advance(1000);
		await eventually('the program’s own default', async () => !(await isOn()));
	});

	test('is off when its rules have not been read for long, and for what is no feature', async () => {
		await using close = new AsyncDisposableStack();
		let isDown = false;
		const read: Store['read'] = async (plan) => {
			if (isDown) throw new Error('the database is gone');
			return await world.deps.store.read(plan);
		};
		const { rule } = await client().setFeature({ feature, scope: 'platform', percentage: 100 });
		const { clock, isOn, gates } = await replica(close, { read });
		expect(await isOn()).toBe(true);
		expect(await gates.isOn('no such feature' as never, acme)).toBe(false);
		isDown = true;
		clock.advance(9000);
		expect(await isOn()).toBe(true);
		clock.advance(2000);
		expect(await isOn()).toBe(false);
		isDown = false;
		clock.advance(500);
		await eventually('the database is back', isOn);
		await client().unsetFeature({ feature, scope: 'platform', etag: rule?.etag ?? '' });
	});

	test('is set with the etag of what was read, at a scope that is there, if there is such a feature', async () => {
		const { rule } = await client().setFeature({ feature, scope, percentage: 10 });
		const again = { feature, scope, percentage: 20 };
		expect(await refusalOf(client().setFeature(again))).toMatchObject({ reason: 'ETAG_MISMATCH' });
		expect(await refusalOf(client().setFeature({ ...again, etag: 'v9' }))).toMatchObject({ reason: 'ETAG_MISMATCH' });
		const { rule: changed } = await client().setFeature({ ...again, etag: rule?.etag ?? '' });
		const list = await client().listFeatures({});
		expect(list.features.map(({ name }) => name)).toEqual([feature]);
		expect(list.rules).toMatchObject([{ feature, scope, percentage: 20 }]);
		expect(await refusalOf(client().setFeature({ ...again, feature: 'x' }))).toMatchObject({
			reason: 'FEATURE_UNKNOWN',
		});
		expect(await refusalOf(client().setFeature({ ...again, scope: 'organizations/nobody' }))).toMatchObject({
			reason: 'SCOPE_NOT_FOUND',
		});
		await client().unsetFeature({ feature, scope, etag: changed?.etag ?? '' });
		expect(await refusalOf(client().unsetFeature({ feature, scope, etag: 'v2' }))).toMatchObject({
			reason: 'NOT_FOUND',
		});
		expect(await refusalOf(client().setFeature({ ...again, etag: 'v2' }))).toMatchObject({ reason: 'ETAG_MISMATCH' });
	});

	test('has at most so many rules, which every replica keeps', async () => {
		const rule = { scope, organization: 'acme', percentage: 1, reason: '', changedAtMs: 1, changedBy: 'x', version: 1 };
		const names = Array.from({ length: FEATURE_RULES_MAX }, (_, index) => `filler-${index}`);
		await world.deps.store.unit(function* (tx) {
			for (const name of names) yield* tx.features.insert({ ...rule, name });
		});
		expect(await refusalOf(client().setFeature({ feature, scope, percentage: 10 }))).toMatchObject({
			code: 'ResourceExhausted',
			reason: 'TOO_MANY_FEATURES',
		});
		await world.deps.store.unit(function* (tx) {
			for (const name of names) yield* tx.features.delete(name, scope, 1);
		});
	});
});
