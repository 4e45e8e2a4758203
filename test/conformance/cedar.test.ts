import { preparsePolicySet, statefulIsAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide } from '../../control-plane/app/iam/decide.ts';
import { permissionBit } from '../../control-plane/app/iam/permissions.ts';
import {
	NOW_MS,
	PERMISSIONS,
	placeIn,
	subjectIn,
	type World,
	world,
} from '../../control-plane/app/iam/policy-fixture.ts';
import { present } from '../../kit/assert.ts';
import { cedarEntities, cedarPolicies } from './cedar-policies.ts';

/**
 * Our decision core beside Cedar, an engine that we didn't write and whose semantics are formally modelled: over random
 * organizations, each asked several questions, both must say the same. 2,500 worlds, 10,000 questions and more.
 */
const WORLDS = 2500;
const QUESTIONS = 4;
const GET = 'tasks.get';

const permission = fc.oneof(
	{ weight: 9, arbitrary: fc.constantFrom(...PERMISSIONS) },
	// The one that a scope's own state does not stop: by chance alone it is hardly ever asked of a suspended scope.
	{ weight: 1, arbitrary: fc.constant('scopes.resume') },
);
const questions = fc.array(fc.record({ permission, reads: fc.boolean(), at: fc.nat({ max: 8 }) }), {
	minLength: QUESTIONS,
	maxLength: QUESTIONS,
});

test('decide says what Cedar says', () => {
	let asked = 0;
	let allowed = 0;
	fc.assert(
		fc.property(world, questions, (given, many) => {
			const oracle = oracleOf(given);
			const subject = subjectIn(given);
			for (const { permission, reads, at } of many) {
				const row = present(given.scopes[at % given.scopes.length], 'a scope: the platform at least');
				const place = placeIn(given, row);
				const ours = decide(subject, {
					authenticated: true,
					permission: permissionBit(permission),
					reads,
					stepUp: false,
					target: { kind: 'object', get: permissionBit(GET), place },
					nowMs: NOW_MS,
				}).allowed;
				// Whoever may not get an object may do nothing to it.
				const isGet = permission === GET;
				const theirs = oracle(permission, row.name, reads) && (isGet || oracle(GET, row.name, true));
				expect(ours, `${permission} at ${row.name}`).toBe(theirs);
				asked += 1;
				if (ours) allowed += 1;
			}
		}),
		{ numRuns: WORLDS },
	);
	expect(asked).toBeGreaterThanOrEqual(10_000);
	// Both answers are met often, this one in one of 14: a generator that only makes refusals would prove nothing.
	expect(allowed).toBeGreaterThan(asked / 40);
});

function oracleOf(given: World): (permission: string, scope: string, reads: boolean) => boolean {
	const parsed = preparsePolicySet('world', { staticPolicies: cedarPolicies(given) });
	expect(parsed).toEqual({ type: 'success' });
	const entities = cedarEntities(given);
	return (permission, scope, reads) => {
		const answer = statefulIsAuthorized({
			principal: { type: 'Principal', id: 'p' },
			action: { type: 'Action', id: permission },
			resource: { type: 'Scope', id: scope },
			context: { reads, permission },
			preparsedPolicySetId: 'world',
			entities,
		});
		if (answer.type !== 'success') throw new Error(JSON.stringify(answer.errors));
		return answer.response.decision === 'allow';
	};
}
