import type { BindingRow } from '../../store/port/access.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** All that gives the principal something: its own bindings and those of its groups. */
export function* heldBindings(tx: Tx, principalId: string): Plan<readonly BindingRow[]> {
	const groups = yield* tx.identities.groupsOf(principalId);
	return yield* tx.access.listBindings([principalId, ...groups.map(({ id }) => id)]);
}
