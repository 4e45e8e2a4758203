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
import type { Store, Tx } from '../../../control-plane/store/port/store.ts';
import type { Plan } from '../../../control-plane/store/port/unit.ts';
import {
	approvalRow,
	assignmentRow,
	bindingRow,
	nodeRow,
	principalRow,
	recordingRow,
	scopeRow,
	taskRow,
	terminalRow,
} from './rows.ts';
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

	test('every list leaves out what a guardrail, a deletion or a key keeps from being got, and nothing else', async () => {
		await using under = await kind.create();
		await under.store.unit(insertRecords);
		for (const [who, given] of Object.entries(SUBJECTS)) {
			const seen = owners(given);
			// Each of them is in the tree, so that it is no accident who sees what.
			expect(seen, who).toEqual(SEEN[who]);
			const shown = await listedRecords(under.store, given);
			for (const [noun, ids] of Object.entries(shown)) expect(ids, `${noun}: ${who}`).toEqual(seen);
		}
	});
});

/** acme has a project that is open, one that a guardrail closes, one that is deleted; another organization has one, too. */
const SCOPES: readonly ScopeRow[] = [
	scopeRow('platform', '/', { kind: 'platform', organization: '', id: 'platform', parent: null }),
	scopeRow('organizations/acme', '/acme/'),
	scopeRow('organizations/acme/departments/lab', '/acme/d.lab/'),
	scopeRow('organizations/acme/projects/open', '/acme/d.lab/p.open/', { parent: 'organizations/acme/departments/lab' }),
	scopeRow('organizations/acme/projects/closed', '/acme/p.closed/'),
	scopeRow('organizations/acme/projects/gone', '/acme/p.gone/', { state: 'deleted' }),
	scopeRow('organizations/rival', '/rival/'),
	scopeRow('organizations/rival/projects/train', '/rival/p.train/'),
];
const NAMES = SCOPES.filter(({ kind }) => kind === 'project' || kind === 'platform').map(({ name }) => name);
const CLOSED = { id: 'g', scope: 'organizations/acme/projects/closed', permissions: ['tasks.get'], principalKinds: [] };

function subject(role: string, scope: string, more: Partial<World> = {}): World {
	const guardrails = [{ ...CLOSED, reason: '', createdAtMs: 1, createdBy: '', version: 1 }];
	const bindings = [bindingRow('b', 'p', { role, scope })];
	const limits = { permissions: [], scope: '' };
	return { kind: 'user', scopes: SCOPES, roles: [], bindings, guardrails, limits, ...more };
}

const SUBJECTS: Readonly<Record<string, World>> = {
	owner: subject('tenant.owner', 'organizations/acme'),
	'somebody of the lab': subject('tenant.viewer', 'organizations/acme/departments/lab'),
	'somebody of a project that is deleted': subject('tenant.viewer', 'organizations/acme/projects/gone'),
	operator: subject('platform.operator', 'platform'),
	'operator by a key of one organization': subject('platform.operator', 'platform', {
		limits: { permissions: [], scope: 'organizations/acme' },
	}),
	'operator by a key that may not': subject('platform.operator', 'platform', {
		limits: { permissions: ['nodes.get'], scope: '' },
	}),
	'somebody without a role': subject('no.such.role', 'organizations/acme'),
};

const SEEN: Readonly<Record<string, readonly string[]>> = {
	owner: ['organizations/acme/projects/open'],
	'somebody of the lab': ['organizations/acme/projects/open'],
	'somebody of a project that is deleted': [],
	operator: [
		'organizations/acme/projects/gone',
		'organizations/acme/projects/open',
		'organizations/rival/projects/train',
		'platform',
	],
	'operator by a key of one organization': ['organizations/acme/projects/gone', 'organizations/acme/projects/open'],
	'operator by a key that may not': [],
	'somebody without a role': [],
};

/** Of each noun one that belongs to each project, called as that, and one that is the platform's own. */
function* insertRecords(tx: Tx): Plan<void> {
	for (const row of SCOPES) if (row.kind !== 'platform') yield* tx.scopes.insert({ ...row, skeleton: row.name });
	yield* tx.identities.insertPrincipal(principalRow('somebody'));
	for (const name of NAMES) {
		const [, organization = null, , project = null] = name.split('/');
		const owned = { organization, project };
		yield* tx.nodes.insert(nodeRow(name));
		if (organization !== null && project !== null)
			yield* tx.assignments.insert(assignmentRow(`a ${name}`, name, { organization, project }));
		yield* tx.tasks.insert(taskRow(name, name, owned));
		yield* tx.terminals.insert(terminalRow(name, { nodeId: name, ...owned }));
		yield* tx.recordings.insert(recordingRow(name, { nodeId: name, ...owned }));
		yield* tx.approvals.insert(approvalRow(name, { requesterId: 'somebody', scope: name }));
	}
}

function owners(given: World): readonly string[] {
	return given.scopes
		.filter((row) => NAMES.includes(row.name) && mayGet(given, row))
		.map(({ name }) => name)
		.toSorted();
}

async function listedRecords(store: Store, given: World): Promise<Readonly<Record<string, readonly string[]>>> {
	const bit = permissionBit(GET);
	const visibility = visibilityOf(subjectIn(given), bit, denialsIn(given, bit));
	const page = { afterId: '', limit: 100, visibility };
	const found = await store.read(function* (tx) {
		return {
			nodes: yield* tx.nodes.list({ ...page, selector: {}, includeRetired: false }),
			tasks: yield* tx.tasks.list({ ...page, nodeId: null, states: [], batchId: null }),
			terminals: yield* tx.terminals.list({ ...page, nodeId: null, includeClosed: true }),
			recordings: yield* tx.recordings.list({ ...page, nodeId: null, terminalId: null }),
			approvals: yield* tx.approvals.list({ ...page, requesterId: 'p' }),
		};
	});
	return Object.fromEntries(Object.entries(found).map(([noun, rows]) => [noun, rows.map(({ id }) => id).toSorted()]));
}

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
