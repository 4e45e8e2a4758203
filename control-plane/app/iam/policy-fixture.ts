import fc from 'fast-check';
import type { BindingRow, GuardrailRow, RoleRow } from '../../store/port/access.ts';
import type { ScopeRow, ScopeState } from '../../store/port/scopes.ts';
import { type Access, compileAccess } from './access.ts';
import type { CompiledLimit, Subject } from './decide.ts';
import { permissionSet } from './permissions.ts';
import { ancestorsOf, forbiddenBy, type GuardedKind, type Place, placeOf } from './place.ts';
import { ROLES } from './roles.ts';

/**
 * Random organizations for property tests: a tree of scopes in any state, custom roles, bindings of one principal,
 * guardrails, a key's limits. Rows as the store has them; the tests compile them as the program does, and the oracle
 * reads the same rows in its own way.
 */
export const NOW_MS = 1000;
export const PERMISSIONS: readonly string[] = [
	...new Set([...Object.values(ROLES).flatMap(({ permissions }) => [...permissions]), 'scopes.resume']),
].toSorted();

export interface World {
	readonly kind: GuardedKind;
	readonly scopes: readonly ScopeRow[];
	readonly roles: readonly RoleRow[];
	readonly bindings: readonly BindingRow[];
	readonly guardrails: readonly GuardrailRow[];
	/** Of the key: no permissions and no scope is no limit. */
	readonly limits: { readonly permissions: readonly string[]; readonly scope: string };
}

/** Drawn more often than all the others: of a hundred equally likely ones two hardly ever meet, and properties look at nothing. */
const FEW = ['tasks.get', 'tasks.create', 'tasks.cancel', 'scopes.get', 'scopes.resume', 'scopes.delete'] as const;
export const permission: fc.Arbitrary<string> = fc.oneof(
	{ weight: 3, arbitrary: fc.constantFrom<string>(...FEW) },
	{ weight: 1, arbitrary: fc.constantFrom(...PERMISSIONS) },
);
const KINDS: readonly GuardedKind[] = ['user', 'service_account', 'operator'];
const state = fc.oneof(
	{ weight: 8, arbitrary: fc.constant<ScopeState>('active') },
	{ weight: 2, arbitrary: fc.constantFrom<ScopeState>('suspended', 'deleting', 'deleted') },
);

/** Parents come before children: `at` picks one among those that may have any. */
const seeds = fc.array(fc.record({ at: fc.nat(), project: fc.boolean(), state }), { minLength: 1, maxLength: 8 });

function scopesOf(drawn: readonly { at: number; project: boolean; state: ScopeState }[]): readonly ScopeRow[] {
	const rows: ScopeRow[] = [scope('platform', 'platform', null, '/', '', 'active')];
	for (const [index, seed] of drawn.entries()) {
		const parents = rows.filter(({ kind }) => kind !== 'project');
		const parent = parents[seed.at % parents.length];
		if (parent === undefined) continue;
		if (parent.kind === 'platform') {
			rows.push(scope(`organizations/o${index}`, 'organization', parent, `/o${index}/`, `o${index}`, seed.state));
		} else {
			const [kind, letter] = seed.project ? (['project', 'p'] as const) : (['department', 'd'] as const);
			const name = `organizations/${parent.organization}/${kind}s/s${index}`;
			rows.push(scope(name, kind, parent, `${parent.path}${letter}.s${index}/`, parent.organization, seed.state));
		}
	}
	return rows;
}

function scope(
	name: string,
	kind: ScopeRow['kind'],
	parent: ScopeRow | null,
	path: string,
	organization: string,
	drawn: ScopeState,
): ScopeRow {
	const id = name.slice(name.lastIndexOf('/') + 1);
	// Whoever is deleted is deleted with everything below.
	const state = parent?.state === 'deleted' ? 'deleted' : drawn;
	const row = { name, kind, organization, id, parent: parent?.name ?? null, path, displayName: id, skeleton: id };
	const rest = { stateReason: '', deleteAtMs: null, createdAtMs: 0, createdBy: '', version: 1 };
	return { ...row, ...rest, state };
}

const rolesDrawn = fc.array(fc.array(permission, { maxLength: 6 }), { maxLength: 2 });

function rolesOf(drawn: readonly (readonly string[])[]): readonly RoleRow[] {
	return drawn.map((permissions, index) => ({
		name: `organizations/o0/roles/r${index}`,
		organization: 'o0',
		displayName: `r${index}`,
		permissions,
		createdAtMs: 0,
		createdBy: '',
		deletedAtMs: null,
		version: 1,
	}));
}

export function bindingIn(scopes: readonly ScopeRow[], roles: readonly RoleRow[]): fc.Arbitrary<BindingRow> {
	return fc.record({
		id: fc.constant('b'),
		principalId: fc.constant('p'),
		role: fc.oneof(
			// Those that hold much, so that a question is answered with yes often enough.
			{ weight: 3, arbitrary: fc.constantFrom('tenant.owner', 'tenant.admin', 'platform.operator') },
			{
				weight: 1,
				arbitrary: fc.constantFrom(...Object.keys(ROLES), ...roles.map(({ name }) => name), 'no.such.role'),
			},
		),
		scope: fc.constantFrom(...scopes.map(({ name }) => name), 'organizations/nowhere'),
		permissions: fc.oneof(
			{ weight: 4, arbitrary: fc.constant([]) },
			{ weight: 1, arbitrary: fc.array(permission, { minLength: 1, maxLength: 4 }) },
		),
		reason: fc.constant(''),
		createdAtMs: fc.constant(0),
		createdBy: fc.constant(''),
		expiresAtMs: fc.constantFrom(null, null, NOW_MS - 1, NOW_MS, NOW_MS + 1),
		version: fc.constant(1),
	});
}

export function guardrailIn(scopes: readonly ScopeRow[]): fc.Arbitrary<GuardrailRow> {
	const pattern = fc.oneof(
		permission,
		permission.map((name) => `${name.split('.')[0]}.*`),
	);
	return fc.record({
		id: fc.constant('g'),
		scope: fc.constantFrom(...scopes.map(({ name }) => name)),
		permissions: fc.array(pattern, { minLength: 1, maxLength: 3 }),
		principalKinds: fc.subarray([...KINDS], { maxLength: 2 }),
		reason: fc.constant(''),
		createdAtMs: fc.constant(0),
		createdBy: fc.constant(''),
		version: fc.constant(1),
	});
}

export const world: fc.Arbitrary<World> = fc
	.record({ kind: fc.constantFrom(...KINDS), scopes: seeds.map(scopesOf), roles: rolesDrawn.map(rolesOf) })
	.chain(({ kind, scopes, roles }) =>
		fc.record({
			kind: fc.constant(kind),
			scopes: fc.constant(scopes),
			roles: fc.constant(roles),
			bindings: fc.array(bindingIn(scopes, roles), { maxLength: 6 }),
			guardrails: fc.array(guardrailIn(scopes), { maxLength: 2 }),
			limits: fc.record({
				permissions: fc.oneof(
					{ weight: 3, arbitrary: fc.constant([]) },
					{ weight: 1, arbitrary: fc.array(permission, { minLength: 1, maxLength: 12 }) },
				),
				scope: fc.oneof(
					{ weight: 3, arbitrary: fc.constant('') },
					{ weight: 1, arbitrary: fc.constantFrom(...scopes.map(({ name }) => name)) },
				),
			}),
		}),
	);

export function accessIn({ scopes, roles }: World, bindings: readonly BindingRow[]): Access {
	const paths = new Map(scopes.filter((row) => row.state !== 'deleted').map(({ name, path }) => [name, path]));
	const placed = bindings.map((row) => ({ ...row, path: paths.get(row.scope) }));
	return compileAccess(placed, new Map(roles.map((role) => [role.name, role])), NOW_MS);
}

export function limitIn({ scopes, limits }: World): CompiledLimit {
	return {
		permissions: limits.permissions.length === 0 ? undefined : permissionSet(limits.permissions),
		path: scopes.find(({ name }) => name === limits.scope)?.path,
	};
}

export function subjectIn(given: World): Subject {
	return { kind: given.kind, access: accessIn(given, given.bindings), limit: limitIn(given) };
}

export function placeIn({ scopes, guardrails }: World, row: ScopeRow): Place {
	const above = ancestorsOf(row.path);
	return placeOf(
		row,
		scopes.filter(({ path }) => above.includes(path)),
		guardrails,
	);
}

/** As `PolicyView.denials`. */
export function denialsIn({ scopes, guardrails, kind }: World, bit: number): readonly string[] {
	return guardrails
		.filter((rule) => ((forbiddenBy([rule])[kind][bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0)
		.map((rule) => scopes.find(({ name }) => name === rule.scope)?.path ?? '/');
}
