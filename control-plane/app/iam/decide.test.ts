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
	permission,
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
	/** Index of the scope that the object stands at, counted round. */
	readonly at: number;
}

const asked: fc.Arbitrary<Asked> = fc.record({
	permission,
	reads: fc.boolean(),
	// Nobody here has one: it would refuse half of what is asked.
	stepUp: fc.oneof({ weight: 5, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
	at: fc.nat({ max: 9 }),
});
/** In half of them the caller owns the organization that is asked about: else nearly nothing would be allowed. */
const worldAndQuestion = fc
	.tuple(world, asked, fc.boolean())
	.map(([given, one, owns]) => [owns ? owning(given, one.at) : given, one] as const);

const get = permissionBit('tasks.get');

function questionIn(given: World, { permission, reads, stepUp, at }: Asked): Question {
	const place = placeIn(given, scopeAt(given, at));
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
		const more = worldAndQuestion.chain(([given, one]) =>
			fc.tuple(fc.constant(given), bindingIn(chainOf(given, one.at), given.roles), fc.constant(one)),
		);
		let besideAnother = 0;
		fc.assert(
			fc.property(more, ([given, binding, one]) => {
				if (!answer(given, one).allowed) return;
				const access = accessIn(given, [...given.bindings, binding]);
				expect(answer(given, one, { ...subjectIn(given), access }).allowed).toBe(true);
				if (given.bindings.some(({ scope }) => scope === binding.scope)) besideAnother += 1;
			}),
			RUNS,
		);
		expect(besideAnother).toBeGreaterThan(20);
	});

	test('adding a guardrail never gives access, and one that forbids outweighs every role', () => {
		const more = worldAndQuestion.chain(([given, one]) =>
			fc.tuple(fc.constant(given), guardrailIn(chainOf(given, one.at)), fc.constant(one)),
		);
		let forbiddenFromAbove = 0;
		fc.assert(
			fc.property(more, ([given, rule, one]) => {
				const guarded = { ...given, guardrails: [...given.guardrails, rule] };
				const after = answer(guarded, one);
				if (!answer(given, one).allowed) expect(after.allowed).toBe(false);
				const forbids = rule.permissions.some(
					(pattern) => pattern === one.permission || `${one.permission.split('.')[0]}.*` === pattern,
				);
				const isHers = rule.principalKinds.length === 0 || rule.principalKinds.includes(given.kind);
				const row = scopeAt(given, one.at);
				const above = given.scopes.find(({ name }) => name === rule.scope);
				if (!forbids || !isHers || !row.path.startsWith(above?.path ?? '-')) return;
				expect(after.allowed).toBe(false);
				if (answer(given, one).allowed && row.name !== rule.scope) forbiddenFromAbove += 1;
			}),
			RUNS,
		);
		// Else it would have looked at nothing.
		expect(forbiddenFromAbove).toBeGreaterThan(5);
	});

	test('access by a key is the principal’s and the key’s', () => {
		fc.assert(
			fc.property(worldAndQuestion, ([given, one]) => {
				const free = { ...given, limits: { permissions: [], scope: '' } };
				const both = answer(given, { ...one, permission: 'tasks.get', reads: true });
				const principal = answer(free, { ...one, permission: 'tasks.get', reads: true });
				const { permissions, scope } = given.limits;
				const limit = given.scopes.find(({ name }) => name === scope);
				const byKey =
					(permissions.length === 0 || permissions.includes('tasks.get')) &&
					(scope === '' || scopeAt(given, one.at).path.startsWith(limit?.path ?? '-'));
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
		let allowed = 0;
		fc.assert(
			fc.property(worldAndQuestion, ([given, one]) => {
				const tenant = { ...subjectIn(given), access: platformless(given), limit: UNLIMITED };
				if (!answer(given, { ...one, stepUp: false }, tenant).allowed) return;
				const row = scopeAt(given, one.at);
				const chain = chainOf(given, one.at);
				expect(chain.map(({ state }) => state)).not.toContain('deleted');
				if (one.reads) return;
				// What ends a suspension asks what stands above.
				const asks = one.permission === 'scopes.resume' ? chain.filter(({ name }) => name !== row.name) : chain;
				expect(asks.filter(({ state }) => state !== 'active')).toEqual([]);
				allowed += 1;
			}),
			RUNS,
		);
		expect(allowed).toBeGreaterThan(20);
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
		expect(reason(ask('scopes.move', at('active', true), keyed))).toBe('binding PERMISSION_DENIED');
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
		// As strong as a person's login can be, whoever shows it.
		const assurance = { issuer: 'i', acr: 'otp', authTimeMs: 0, keysFresh: true, strongUntilMs: NOW_MS + 1 };
		const as = (kind: ActorKind) => decide({ kind, access, limit: UNLIMITED, assurance }, question);
		expect(as('user')).toEqual({ allowed: true, plane: 'platform' });
		expect(as('service_account')).toEqual({ allowed: false, gate: 'assurance', reason: 'STEP_UP_REQUIRED' });
		expect(decide({ kind: 'user', access, limit: UNLIMITED }, question)).toEqual(as('service_account'));
		expect(decide({ kind: 'operator', access, limit: UNLIMITED }, question)).toEqual(as('user'));
		const nobody = { kind: 'service_account', access: NO_ACCESS, limit: UNLIMITED } as const;
		expect(decide(nobody, question)).toMatchObject({ gate: 'binding' });
	});
});

function scopeAt({ scopes }: World, at: number): ScopeRow {
	return present(scopes[at % scopes.length], 'the platform is drawn first');
}

/** The scope itself and all above it. */
function chainOf(given: World, at: number): readonly ScopeRow[] {
	return given.scopes.filter(({ path }) => scopeAt(given, at).path.startsWith(path));
}

function owning(given: World, at: number): World {
	const organization = chainOf(given, at)[1];
	if (organization === undefined) return given;
	const made = { reason: '', createdAtMs: 0, createdBy: '', expiresAtMs: null, version: 1 };
	const owner = { id: 'o', principalId: 'p', role: 'tenant.owner', scope: organization.name, permissions: [], ...made };
	return { ...given, bindings: [...given.bindings, owner] };
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
