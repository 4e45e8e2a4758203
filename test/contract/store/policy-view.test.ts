import { expect, test } from 'vitest';
import { heldAt } from '../../../control-plane/app/iam/decide.ts';
import { permissionBit } from '../../../control-plane/app/iam/permissions.ts';
import { PolicyCache, PolicyView } from '../../../control-plane/app/iam/policy-view.ts';
import { insertProject } from './projects.ts';
import { bindingRow, principalRow } from './rows.ts';
import { eachStore } from './stores.ts';

const SCOPE = 'organizations/acme/projects/train';
const GET = permissionBit('tasks.get');

eachStore('what is compiled of the policy', (kind) => {
	test('ends with the first of its bindings, though no epoch tells', async () => {
		await using under = await kind.create();
		await under.store.unit(function* (tx) {
			yield* insertProject(tx, 'acme', 'train');
			yield* tx.identities.insertPrincipal(principalRow('ada'));
			yield* tx.access.insertBinding(bindingRow('b', 'ada', { scope: SCOPE, expiresAtMs: 100 }));
			yield* tx.access.insertBinding(bindingRow('c', 'ada', { scope: SCOPE, role: 'tenant.billing' }));
		});
		const view = new PolicyView(1);
		const isHeld = (nowMs: number) =>
			under.store.read(function* (tx) {
				return heldAt(yield* view.access(tx, 'ada', nowMs), GET, yield* view.place(tx, SCOPE));
			});
		expect([await isHeld(1), await isHeld(99), await isHeld(100), await isHeld(101)]).toEqual([
			true,
			true,
			false,
			false,
		]);
	});

	test('is read anew once the policy has changed, and shared while it stands still', async () => {
		await using under = await kind.create();
		const policies = new PolicyCache();
		const view = () =>
			under.store.read(function* (tx) {
				return yield* policies.committed(tx);
			});
		const first = await view();
		expect(await view()).toBe(first);
		await under.store.unit((tx) => tx.identities.insertPrincipal(principalRow('ada')));
		await under.store.unit((tx) => tx.access.insertBinding(bindingRow('b', 'ada', { scope: 'platform' })));
		const second = await view();
		expect(second).not.toBe(first);
		expect(second.epoch).toBeGreaterThan(first.epoch);
		// A unit that changes the policy has a view of its own, which nobody else gets.
		await under.store.unit(function* (tx) {
			yield* tx.access.deleteBinding('b');
			expect(yield* policies.inUnit(tx)).not.toBe(second);
		});
	});
});
