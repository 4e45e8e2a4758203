import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LeakCount } from '../../control-plane/app/keys/leak-count.ts';
import { OutboxReconciler } from '../../control-plane/reconcilers/outbox.ts';
import { TerminalReconciler } from '../../control-plane/reconcilers/terminals.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { insertProject } from '../contract/store/projects.ts';
import { eventually } from '../eventually.ts';
import { IamWorld, iamClients, idOf } from './iam-world.ts';
import { addTerminal } from './terminal-samples.ts';

/** Who hears that a key was reported as leaked: what it opened ends, the page counts it, its organizations read of it. */
let world: IamWorld;
beforeAll(async () => {
	world = await IamWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

const report = (key: string) => iamClients(world.api, undefined).keys.reportLeakedKey({ key });

test('a terminal that the key opened ends with the event, before anybody looks again', async () => {
	const { deps } = world.api;
	// Its clock stands still: nothing but the event wakes it.
	using _reconciler = new TerminalReconciler({ ...deps, clock: new VirtualClock() });
	const { key, id } = await world.member('tenant.developer', `${world.organization}/projects/train`);
	const node = (await world.api.addNode()).id;
	const assignment = { organization: 'globex', project: 'train', mode: 'operator' } as const;
	await deps.store.unit((tx) =>
		tx.assignments.insert({
			...{ id: `a-${node}`, nodeId: node, sliceId: '', generation: 1, fromMs: 1, untilMs: null },
			...assignment,
		}),
	);
	const open = { state: 'open', closedAtMs: null, exitCode: null, expiresAtMs: Number.MAX_SAFE_INTEGER } as const;
	const more = { ...open, detachedAtMs: null, credentialId: key.split('_')[3] ?? '' };
	const [leaked, other] = [
		await addTerminal(world.api, node, id, more),
		await addTerminal(world.api, node, id, { ...more, credentialId: '' }),
	];
	const terminal = (of: string) => deps.store.read((tx) => tx.terminals.get(of));
	await report(key);
	const ended = await eventually('the terminal has ended', async () => {
		const row = await terminal(leaked);
		return row?.state === 'closed' && row;
	});
	expect(ended.reason).toBe('CREDENTIAL_REVOKED');
	expect((await terminal(other))?.state).toBe('open');
});

test('a person’s key is in the audit of each organization that they belong to, and counted once', async () => {
	const { deps } = world.api;
	await using outbox = new OutboxReconciler({ ...deps, clock: new VirtualClock() });
	await outbox.once();
	using count = new LeakCount(deps.bus);
	const key = await world.api.addPrincipal('user', 'tenant.viewer', world.organization);
	await deps.store.unit((tx) =>
		tx.identities.insertMember({ organization: 'acme', principalId: idOf(key), joinedAtMs: 1, addedBy: 'x' }),
	);
	await report(key);
	await report(key);
	await outbox.once();
	const records = (await world.api.audit()).filter(
		({ action, detail }) => action === 'keys.leaked' && detail.principal === idOf(key),
	);
	expect(records.map(({ organization }) => organization).toSorted()).toEqual(['acme', 'globex']);
	expect(count.total).toBe(1);
	// Reported twice at the same moment, too: both have found it live before either revokes it.
	const twice = await world.api.addPrincipal('user', 'tenant.viewer', world.organization);
	const unit = deps.store.unit.bind(deps.store);
	const both = Promise.withResolvers<void>();
	let found = 0;
	vi.spyOn(deps.store, 'unit').mockImplementation(async (plan, options) => {
		found += 1;
		if (found === 2) both.resolve();
		await both.promise;
		return await unit(plan, options);
	});
	await Promise.all([report(twice), report(twice)]);
	vi.restoreAllMocks();
	const once = (await world.api.audit()).filter(({ detail }) => detail.principal === idOf(twice));
	expect(once.map(({ action, organization }) => [action, organization])).toEqual([['keys.leaked', 'globex']]);
	expect(count.total).toBe(2);
	// Nothing of it is in a log where they aren't.
	const nobodys = await world.api.addPrincipal('user', 'platform.viewer', 'platform');
	await report(nobodys);
	const last = (await world.api.audit()).filter(({ detail }) => detail.principal === idOf(nobodys));
	expect(last.map(({ organization }) => organization)).toEqual(['']);
	expect(count.total).toBe(3);
});

test('the platform reads of a key that reaches it, and of how many organizations were not told', async () => {
	const join = (key: string, organizations: readonly string[]) =>
		world.api.deps.store.unit(function* (tx) {
			for (const organization of organizations) {
				yield* insertProject(tx, organization, 'train');
				yield* tx.identities.insertMember({ organization, principalId: idOf(key), joinedAtMs: 1, addedBy: 'x' });
			}
		});
	const recordsOf = async (key: string) =>
		(await world.api.audit())
			.filter(({ action, detail }) => action === 'keys.leaked' && detail.principal === idOf(key))
			.map(({ organization, detail }) => [organization, detail.organizations_not_told]);
	const ofPlatform = await world.api.addPrincipal('operator', 'platform.operator', 'platform');
	await join(ofPlatform, ['acme']);
	await report(ofPlatform);
	expect(await recordsOf(ofPlatform)).toEqual([
		['', undefined],
		['acme', undefined],
	]);
	const ofMany = await world.api.addPrincipal('user', 'tenant.viewer', world.organization);
	const many = ['many-a', 'many-b', 'many-c', 'many-d', 'many-e'];
	await join(ofMany, many);
	await report(ofMany);
	// How many others there are is told to no organization.
	expect(await recordsOf(ofMany)).toEqual([
		['', 2],
		['globex', undefined],
		...many.slice(0, 3).map((id) => [id, undefined]),
	]);
});
