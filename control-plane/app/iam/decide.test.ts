import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { present } from '../../../kit/assert.ts';
import type { ActorKind } from '../../context.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import { compileAccess, NO_ACCESS, platformAccess } from './access.ts';
import { type Decision, decide, type Question, type Subject, UNLIMITED, visibilityOf } from './decide.ts';
import { permissionBit, permissionSet } from './permissions.ts';
import { type Place, placeOf } from './place.ts';
import {
	accessIn,
	bindingIn,
	denialsIn,
	guardrailIn,
	NOW_MS,
	PERMISSIONS,
	placeIn,
	subjectIn,
	type World,
	world,
} from './policy-fixture.ts';

const RUNS = { numRuns: 1000 };

interface Asked {
	readonly permission: string;
	readonly reads: boolean;
	readonly stepUp: boolean;
	/** Index of the scope that the object stands at; beyond: the platform. */
	readonly at: number;
}

const asked: fc.Arbitrary<Asked> = fc.record({
	permission: fc.constantFrom(...PERMISSIONS),
	reads: fc.boolean(),
	stepUp: fc.boolean(),
	at: fc.nat({ max: 9 }),
});
const worldAndQuestion = fc.tuple(world, asked);

const get = permissionBit('tasks.get');

function questionIn(given: World, { permission, reads, stepUp, at }: Asked): Question {
	const place = placeIn(given, given.scopes[at] ?? platformOf(given));
	const target = { kind: 'object', get, place } as const;
	return { authenticated: true, permission: permissionBit(permission), reads, stepUp, target, nowMs: NOW_MS };
}

function answer(given: World, one: Asked, subject: Subject = subjectIn(given)): Decision {
	return decide(subject, questionIn(given, one));
}

describe('decide', () => {
	test('without a binding nothing is allowed', () => {
		fc.assert(
			fc.property(worldAndQuestion, ([given, one]) => {
				expect(answer(given, one, { ...subjectIn(given), access: NO_ACCESS }).allowed).toBe(false);
			}),
			RUNS,
		);
	});

	test('adding a binding never takes access away', () => {
		const more = world.chain((given) => fc.tuple(fc.constant(given), bindingIn(given.scopes, given.roles), asked));
		fc.assert(
			fc.property(more, ([given, binding, one]) => {
				if (!answer(given, one).allowed) return;
				const access = accessIn(given, [...given.bindings, binding]);
				expect(answer(given, one, { ...subjectIn(given), access }).allowed).toBe(true);
			}),
			RUNS,
		);
	});

	test('adding a guardrail never gives access, and one that forbids outweighs every role', () => {
		const more = world.chain((given) => fc.tuple(fc.constant(given), guardrailIn(given.scopes), asked));
		fc.assert(
			fc.property(more, ([given, rule, one]) => {
				const guarded = { ...given, guardrails: [...given.guardrails, rule] };
				const after = answer(guarded, one);
				if (!answer(given, one).allowed) expect(after.allowed).toBe(false);
				const forbids = rule.permissions.some(
					(pattern) => pattern === one.permission || `${one.permission.split('.')[0]}.*` === pattern,
				);
				const isHers = rule.principalKinds.length === 0 || rule.principalKinds.includes(given.kind);
				const row = given.scopes[one.at];
				const above = given.scopes.find(({ name }) => name === rule.scope);
				if (forbids && isHers && row !== undefined && row.path.startsWith(above?.path ?? '-'))
					expect(after.allowed).toBe(false);
			}),
			RUNS,
		);
	});

	test('access by a key is the principal’s and the key’s', () => {
		fc.assert(
			fc.property(worldAndQuestion, ([given, one]) => {
				const free = { ...given, limits: { permissions: [], scope: '' } };
				const both = answer(given, { ...one, permission: 'tasks.get', reads: true });
				const principal = answer(free, { ...one, permission: 'tasks.get', reads: true });
				const { permissions, scope } = given.limits;
				const row = given.scopes[one.at];
				const limit = given.scopes.find(({ name }) => name === scope);
				const byKey =
					(permissions.length === 0 || permissions.includes('tasks.get')) &&
					(scope === '' || (row ?? platformOf(given)).path.startsWith(limit?.path ?? '-'));
				expect(both.allowed).toBe(principal.allowed && byKey);
			}),
			RUNS,
		);
	});

	test('whoever may not get an object is told what they would be told if it did not exist', () => {
		fc.assert(
			fc.property(worldAndQuestion, ([given, one]) => {
				const subject = subjectIn(given);
				const mayGet = answer(given, { ...one, permission: 'tasks.get', reads: true, stepUp: false }).allowed;
				if (mayGet) return;
				const missing = decide(subject, { ...questionIn(given, one), target: { kind: 'missing' } });
				expect(decide(subject, questionIn(given, one))).toEqual(missing);
			}),
			RUNS,
		);
	});

	test('a list is exactly what may be got', () => {
		fc.assert(
			fc.property(world, fc.constantFrom('tasks.get', 'nodes.get'), (given, permission) => {
				const bit = permissionBit(permission);
				const subject = subjectIn(given);
				const visibility = visibilityOf(subject, bit, denialsIn(given, bit));
				// A row for each scope that could own one; those of the platform have no project.
				for (const row of given.scopes) {
					const place = placeIn(given, row);
					const got = decide(subject, {
						authenticated: true,
						permission: bit,
						reads: true,
						stepUp: false,
						target: { kind: 'object', get: bit, place },
						nowMs: NOW_MS,
					}).allowed;
					expect(isListed(visibility, row), row.name).toBe(got);
				}
			}),
			{ numRuns: 3000 },
		);
	});

	test('a suspended scope can be looked at and not changed by its tenants, a deleted one is not there', () => {
		fc.assert(
			fc.property(worldAndQuestion, ([given, one]) => {
				const row = given.scopes[one.at];
				if (
					row === undefined ||
					answer(given, one, { ...subjectIn(given), access: platformless(given) }).allowed === false
				)
					return;
				const place = placeIn(given, row);
				expect(place.state).not.toBe('deleted');
				if (!one.reads && one.permission !== 'scopes.resume') expect(place.state).toBe('active');
			}),
			RUNS,
		);
	});

	test('the first gate that fails names the reason', () => {
		const chain = [scopeRow('platform', '/'), scopeRow('organizations/a', '/a/')];
		const rule = { id: 'g', scope: 'organizations/a', permissions: ['tasks.create'], principalKinds: [], reason: '' };
		const rules = [{ ...rule, createdAtMs: 0, createdBy: '', version: 1 }];
		const bound = { role: 'tenant.developer', path: '/a/', permissions: [], expiresAtMs: null };
		const access = compileAccess([bound], new Map(), NOW_MS);
		const at = (state: ScopeRow['state'], guarded: boolean) => {
			const row = { ...present(chain[1], 'two'), state };
			return placeOf(row, [present(chain[0], 'two'), row], guarded ? rules : []);
		};
		const ask = (permission: string, place: Place, limit = UNLIMITED, stepUp = false) =>
			decide(
				{ kind: 'user', access, limit },
				{
					authenticated: true,
					permission: permissionBit(permission),
					reads: false,
					stepUp,
					target: { kind: 'object', get, place },
					nowMs: NOW_MS,
				},
			);
		const reason = (decision: Decision) => (decision.allowed ? 'ALLOWED' : `${decision.gate} ${decision.reason}`);
		const keyed = { permissions: permissionSet(['tasks.get']), path: undefined };
		expect(reason(ask('tasks.create', at('deleted', false)))).toBe('tenant NOT_FOUND');
		expect(reason(ask('tasks.create', at('suspended', true)))).toBe('lifecycle SCOPE_SUSPENDED');
		expect(reason(ask('tasks.create', at('active', true)))).toBe('guardrail GUARDRAIL_FORBIDS');
		expect(reason(ask('scopes.move', at('active', true)))).toBe('binding PERMISSION_DENIED');
		expect(reason(ask('tasks.cancel', at('active', true), keyed))).toBe('credential CREDENTIAL_SCOPE_EXCEEDED');
		expect(reason(ask('tasks.cancel', at('active', true), UNLIMITED, true))).toBe('assurance STEP_UP_REQUIRED');
		expect(reason(ask('tasks.cancel', at('active', true)))).toBe('ALLOWED');
	});

	test('only a principal is asked for roles', () => {
		const access = platformAccess('platform.operator');
		for (const kind of ['node', 'joiner', 'system', 'anonymous'] as const satisfies readonly ActorKind[]) {
			const question: Question = {
				authenticated: true,
				permission: permissionBit('nodes.get'),
				reads: true,
				stepUp: false,
				target: { kind: 'platform', place: undefined },
				nowMs: NOW_MS,
			};
			expect(decide({ kind, access, limit: UNLIMITED }, question)).toMatchObject({ gate: 'authn' });
			expect(decide({ kind: 'user', access, limit: UNLIMITED }, question)).toEqual({
				allowed: true,
				plane: 'platform',
			});
		}
	});

	test('step-up is asked for last, and a service account never has it', () => {
		const access = platformAccess('platform.operator');
		const question: Question = {
			authenticated: true,
			permission: permissionBit('ca.rotate'),
			reads: false,
			stepUp: true,
			target: { kind: 'platform', place: undefined },
			nowMs: NOW_MS,
		};
		const as = (kind: ActorKind) => decide({ kind, access, limit: UNLIMITED }, question);
		expect(as('operator')).toEqual({ allowed: true, plane: 'platform' });
		expect(as('service_account')).toEqual({ allowed: false, gate: 'assurance', reason: 'STEP_UP_REQUIRED' });
		const nobody = { kind: 'service_account', access: NO_ACCESS, limit: UNLIMITED } as const;
		expect(decide(nobody, question)).toMatchObject({ gate: 'binding' });
	});
});

function platformOf({ scopes }: World): ScopeRow {
	return present(scopes[0], 'the platform is drawn first');
}

function scopeRow(name: string, path: string): ScopeRow {
	return {
		name,
		kind: name === 'platform' ? 'platform' : 'organization',
		organization: name === 'platform' ? '' : 'a',
		id: 'a',
		parent: null,
		path,
		displayName: '',
		skeleton: '',
		state: 'active',
		stateReason: '',
		deleteAtMs: null,
		createdAtMs: 0,
		createdBy: '',
		version: 1,
	};
}

/** The tenant roles of the world's principal alone. */
function platformless(given: World) {
	const { at, validUntilMs } = accessIn(given, given.bindings);
	return { ...NO_ACCESS, at, validUntilMs };
}

/** What store/tables/visibility.ts says in SQL. */
function isListed(visibility: ReturnType<typeof visibilityOf>, row: ScopeRow): boolean {
	if (visibility.all) return true;
	if (row.kind === 'platform') return visibility.unowned;
	const isBelow = (path: string) => row.path.startsWith(path);
	if (row.state === 'deleted' && !visibility.deleted) return false;
	return visibility.grants.some(isBelow) && !visibility.denials.some(isBelow);
}
