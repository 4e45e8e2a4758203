import { QUOTA_KINDS } from '../../store/port/quotas.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { chainOf, organizationName } from './chain.ts';
import { assertRoom } from './exceeded.ts';

/**
 * What a scope and all below it have is taken from the levels that it leaves and added to those that it comes to, which
 * must have room for it: throws QUOTA_EXCEEDED. In the unit that moves it, before its path changes.
 */
export function* moveQuotas(tx: Tx, scope: ScopeRow, to: ScopeRow): Plan<void> {
	const { organization } = scope;
	const { left, entered } = yield* levelsOfMove(tx, scope, to);
	for (const kind of QUOTA_KINDS) {
		yield* tx.quotas.lock(organization, [organizationName(organization)], kind);
		const moved = (yield* tx.quotas.at([scope.name])).find((row) => row.kind === kind);
		if (moved === undefined || moved.used + moved.reserved === 0) continue;
		const { used, reserved } = moved;
		const rows = yield* tx.quotas.lock(organization, [...left, ...entered].toSorted(), kind);
		assertRoom(
			rows.filter((row) => entered.includes(row.scope)),
			used + reserved,
		);
		yield* tx.quotas.add(left, kind, { used: -used, reserved: -reserved });
		yield* tx.quotas.add(entered, kind, { used, reserved });
	}
}

/** The levels that a scope would leave, and those that it would come to: names, from the top down. */
export function* levelsOfMove(
	tx: Tx,
	scope: ScopeRow,
	to: ScopeRow,
): Plan<{ readonly left: readonly string[]; readonly entered: readonly string[] }> {
	const from = (yield* chainOf(tx, scope.path)).map(({ name }) => name).filter((name) => name !== scope.name);
	const into = (yield* chainOf(tx, to.path)).map(({ name }) => name);
	return {
		left: from.filter((name) => !into.includes(name)),
		entered: into.filter((name) => !from.includes(name)),
	};
}
