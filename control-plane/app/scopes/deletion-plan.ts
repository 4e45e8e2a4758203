import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import {
	type DeletionPlan,
	DeletionPlanSchema,
	PlanScopeDeletionResponseSchema,
	ScopeService,
} from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { query } from '../use-case.ts';
import { assertScopeItself } from './scope-itself.ts';

const FIRST_SCOPES_MAX = 20;

/** What a deletion takes with it. Whoever deletes shows that they saw it, by its digest. */
export const planScopeDeletion = query('scope', ScopeService.method.planScopeDeletion, {
	*read(tx, { policy }, target) {
		return yield* deletionPlan(tx, assertScopeItself(policy, target));
	},
	answer: (_call, plan) => create(PlanScopeDeletionResponseSchema, { plan }),
});

export function* deletionPlan(tx: Tx, scope: ScopeRow): Plan<DeletionPlan> {
	const counts = yield* tx.scopes.countIn(scope.path);
	const first = yield* tx.scopes.listBelow(scope.path, FIRST_SCOPES_MAX);
	const facts = [scope.name, scope.version, counts.scopes, counts.principals, counts.bindings, counts.openAssignments];
	return create(DeletionPlanSchema, {
		scopes: BigInt(counts.scopes),
		principals: BigInt(counts.principals),
		bindings: BigInt(counts.bindings),
		openAssignments: BigInt(counts.openAssignments),
		firstScopes: [scope.name, ...first.map(({ name }) => name)].slice(0, FIRST_SCOPES_MAX),
		planDigest: createHash('sha256').update(JSON.stringify(facts)).digest('hex'),
	});
}
