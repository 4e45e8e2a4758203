import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide, visibilityOf } from '../../../control-plane/app/iam/decide.ts';
import { permissionBit } from '../../../control-plane/app/iam/permissions.ts';
import {
	denialsIn,
	NOW_MS,
	placeIn,
	subjectIn,
	type World,
	world,
} from '../../../control-plane/app/iam/policy-fixture.ts';
import type { ScopeRow } from '../../../control-plane/store/port/scopes.ts';
import type { Store } from '../../../control-plane/store/port/store.ts';
import { nodeRow, taskRow } from './rows.ts';
import { eachStore } from './stores.ts';

/**
 * List equals filter(get), in SQL: over random organizations, what each store lists under a caller's visibility is what
 * `decide` says that the caller may get, row by row: scopes by their own path, tasks by that of their project.
 */
const WORLDS = 12;
const GET = 'tasks.get';

eachStore('visibility', (kind) => {
	test('a store lists exactly what may be got', async () => {
		for (const given of fc.sample(world, WORLDS)) {
			await using under = await kind.create();
			await insertWorld(under.store, given);
			expect(await listed(under.store, given)).toEqual(may(given));
		}
	});
});

async function insertWorld(store: Store, { scopes }: World): Promise<void> {
	await store.unit(function* (tx) {
		for (const row of scopes) if (row.kind !== 'platform') yield* tx.scopes.insert({ ...row, skeleton: row.name });
		yield* tx.nodes.insert(nodeRow('n'));
		yield* tx.tasks.insert(taskRow('task of platform', 'n'));
		for (const { name, kind, organization, id } of scopes)
			if (kind === 'project') yield* tx.tasks.insert(taskRow(`task of ${name}`, 'n', { organization, project: id }));
	});
}

async function listed(store: Store, given: World): Promise<string[]> {
	const bit = permissionBit(GET);
	const visibility = visibilityOf(subjectIn(given), bit, denialsIn(given, bit));
	const page = { afterId: '', limit: 100, visibility };
	return await store.read(function* (tx) {
		const scopes = yield* tx.scopes.list({ ...page, organization: null, parent: null, kinds: [] });
		const tasks = yield* tx.tasks.list({ ...page, nodeId: null, states: [], batchId: null });
		return [...scopes.map(({ name }) => name), ...tasks.map(({ id }) => id)].toSorted();
	});
}

function may(given: World): string[] {
	const seen = given.scopes.filter((row) => mayGet(given, row));
	const owners = seen.filter(({ kind }) => kind === 'project' || kind === 'platform');
	// The list of scopes leaves deleted ones out, for everybody.
	const shown = seen.filter(({ state }) => state !== 'deleted');
	return [...shown.map(({ name }) => name), ...owners.map(({ name }) => `task of ${name}`)].toSorted();
}

function mayGet(given: World, row: ScopeRow): boolean {
	const bit = permissionBit(GET);
	return decide(subjectIn(given), {
		authenticated: true,
		permission: bit,
		reads: true,
		stepUp: false,
		target: { kind: 'object', get: bit, place: placeIn(given, row) },
		nowMs: NOW_MS,
	}).allowed;
}
