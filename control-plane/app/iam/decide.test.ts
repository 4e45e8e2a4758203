import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ActorKind, RoleBinding } from '../../context.ts';
import { decide, holdsInProject, type Question, visibilityOf } from './decide.ts';
import { ROLES } from './roles.ts';

const KINDS: readonly ActorKind[] = ['operator', 'user', 'service_account', 'node', 'joiner', 'system', 'anonymous'];
const PERMISSIONS = [...new Set(Object.values(ROLES).flatMap(({ permissions }) => [...permissions]))];
const PROJECTS = ['a', 'b'].flatMap((organization) => ['p', 'q'].map((project) => ({ organization, project })));

const binding: fc.Arbitrary<RoleBinding> = fc.record({
	role: fc.constantFrom(...Object.keys(ROLES), 'no.such.role'),
	scope: fc.constantFrom(
		'platform',
		'organizations/a',
		'',
		'organizations/a/projects/p/x',
		...PROJECTS.map(({ organization, project }) => `organizations/${organization}/projects/${project}`),
	),
});
const actor = fc.record({ kind: fc.constantFrom(...KINDS), bindings: fc.array(binding, { maxLength: 4 }) });
const target: fc.Arbitrary<Question['target']> = fc.oneof(
	fc.constantFrom<Question['target']>({ kind: 'platform' }, { kind: 'any' }, { kind: 'missing' }),
	fc.record({
		kind: fc.constant('object' as const),
		getPermission: fc.constantFrom('nodes.get', 'tasks.get', 'operations.get'),
		project: fc.constantFrom(null, ...PROJECTS),
	}),
);
const question: fc.Arbitrary<Question> = fc.record({
	authenticated: fc.constant(true),
	permission: fc.constantFrom(...PERMISSIONS),
	stepUp: fc.boolean(),
	target,
});

const RUNS = { numRuns: 2000 };

describe('decide', () => {
	test('without a binding nothing is allowed', () => {
		fc.assert(
			fc.property(fc.constantFrom(...KINDS), question, (kind, asked) => {
				expect(decide({ kind, bindings: [] }, asked).allowed).toBe(false);
			}),
			RUNS,
		);
	});

	test('adding a binding never takes access away', () => {
		fc.assert(
			fc.property(actor, binding, question, (who, more, asked) => {
				if (!decide(who, asked).allowed) return;
				expect(decide({ ...who, bindings: [...who.bindings, more] }, asked).allowed).toBe(true);
			}),
			RUNS,
		);
	});

	test('whoever may not get an object is told what they would be told if it did not exist', () => {
		fc.assert(
			fc.property(actor, question, (who, asked) => {
				if (asked.target.kind !== 'object') return;
				const got = decide(who, { ...asked, permission: asked.target.getPermission, stepUp: false });
				if (got.allowed) return;
				expect(decide(who, asked)).toEqual(decide(who, { ...asked, target: { kind: 'missing' } }));
			}),
			RUNS,
		);
	});

	test('a list shows exactly what get would give', () => {
		fc.assert(
			fc.property(
				actor,
				fc.constantFrom(...PROJECTS),
				fc.constantFrom('nodes.get', 'tasks.get'),
				(who, project, permission) => {
					const kind = 'user' as const;
					const visible = visibilityOf(who, permission);
					const listed =
						visible.all ||
						visible.projects.some(
							(one) => one.organization === project.organization && one.project === project.project,
						);
					const object = { kind: 'object' as const, getPermission: permission, project };
					const got = decide({ ...who, kind }, { authenticated: true, permission, stepUp: false, target: object });
					expect(listed).toBe(got.allowed);
				},
			),
			RUNS,
		);
	});

	test('the planes never mix', () => {
		const tenantAtPlatform = { kind: 'user' as const, bindings: [{ role: 'tenant.developer', scope: 'platform' }] };
		const platformAtProject = {
			kind: 'user' as const,
			bindings: [{ role: 'platform.operator', scope: 'organizations/a/projects/p' }],
		};
		for (const permission of PERMISSIONS) {
			const asked = { authenticated: true, permission, stepUp: false, target: { kind: 'platform' as const } };
			expect(decide(tenantAtPlatform, asked).allowed).toBe(false);
			expect(decide(platformAtProject, asked).allowed).toBe(false);
			expect(holdsInProject(platformAtProject, permission, { organization: 'a', project: 'p' })).toBe(false);
		}
	});

	test('only people with a credential are principals: agents, joiners and parts of ours are not', () => {
		for (const kind of KINDS) {
			const who = { kind, bindings: [{ role: 'platform.operator', scope: 'platform' }] };
			const asked = {
				authenticated: true,
				permission: 'nodes.get',
				stepUp: false,
				target: { kind: 'platform' as const },
			};
			expect(decide(who, asked).allowed).toBe(['operator', 'user', 'service_account'].includes(kind));
		}
	});

	test('step-up is asked last, and only the bootstrap operator has it', () => {
		const asked = { authenticated: true, permission: 'ca.rotate', stepUp: true, target: { kind: 'platform' as const } };
		const bindings = [{ role: 'platform.operator', scope: 'platform' }];
		expect(decide({ kind: 'operator', bindings }, asked)).toMatchObject({ allowed: true });
		expect(decide({ kind: 'user', bindings }, asked)).toMatchObject({ gate: 'assurance', reason: 'STEP_UP_REQUIRED' });
		expect(decide({ kind: 'service_account', bindings }, asked)).toMatchObject({ reason: 'STEP_UP_REQUIRED' });
		expect(decide({ kind: 'user', bindings: [] }, asked)).toMatchObject({ reason: 'PERMISSION_DENIED' });
	});
});
