import { GpuaasError } from '../../../kit/error.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { chainOf } from '../quotas/chain.ts';
import { ANY_GPU_MODEL } from './subjects.ts';

/**
 * The gate after those of authorization: whether the scope, by itself or by what it stands in, may have all of these now.
 * Asked in the unit that gives it, before quota. Throws ENTITLEMENT_MISSING.
 */
export function* assertEntitled(tx: Tx, scope: ScopeRow, subjects: readonly string[], nowMs: number): Plan<void> {
	const missing = yield* missingEntitlements(tx, scope, subjects, nowMs);
	if (missing.length === 0) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ENTITLEMENT_MISSING',
		message: `${scope.name} is not entitled to ${missing.join(', ')} now, neither itself nor by what it stands in; nothing was done. The platform grants it: gpuaas entitlement grant ${scope.name} "${missing[0]}"`,
		metadata: { scope: scope.name, missing: missing.join(',').slice(0, 512) },
	});
}

/** Which of these neither the scope nor what it stands in may have now. */
export function* missingEntitlements(
	tx: Tx,
	scope: ScopeRow,
	subjects: readonly string[],
	nowMs: number,
): Plan<readonly string[]> {
	if (subjects.length === 0) return [];
	const names = (yield* chainOf(tx, scope.path)).map(({ name }) => name);
	const given = new Set(
		(yield* tx.entitlements.inForce(names, [...subjects, ANY_GPU_MODEL], nowMs)).map(({ subject }) => subject),
	);
	return subjects.filter(
		(subject) => !given.has(subject) && !(subject.startsWith('gpu-model/') && given.has(ANY_GPU_MODEL)),
	);
}
