import { GpuaasError } from '../../../kit/error.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { type Granter, mayAt } from '../iam/grants.ts';
import { ancestorsOf } from '../iam/place.ts';

/**
 * That the caller may take the scope away from where it stands: somebody whose roles begin at the scope itself would
 * otherwise take it from the people and the guardrails above it. Throws PERMISSION_DENIED.
 */
export function* assertMayLeave(
	tx: Tx,
	granter: Granter,
	scope: ScopeRow,
	to: Pick<ScopeRow, 'path'>,
	nowMs: number,
): Plan<void> {
	const from = scope.parent === null ? undefined : yield* granter.view.place(tx, scope.parent);
	if (from === undefined || !mayAt(granter, 'scopes.move', from, nowMs))
		throw refused('scopes.move', 'you may not move what stands in its present parent');
	const kept = new Set(ancestorsOf(to.path));
	const left = new Set(from.ancestors.filter((path) => !kept.has(path)));
	for (const { rule, path } of yield* granter.view.rules(tx)) {
		if (!left.has(path)) continue;
		const place = yield* granter.view.place(tx, rule.scope);
		if (place === undefined || !mayAt(granter, 'guardrails.manage', place, nowMs))
			throw refused('guardrails.manage', `it would leave a guardrail of ${rule.scope}, which you may not lift`);
	}
}

function refused(permission: string, why: string): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'PERMISSION_DENIED',
		message: `${why}; nothing was moved. Ask somebody who holds ${permission} there`,
		metadata: { permission },
	});
}
