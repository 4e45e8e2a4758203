import type { RequestContext } from '../../context.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import { revokeAllKeys } from '../keys/counted.ts';

/** Principals that one look takes; a home with more is looked at again. */
const PRINCIPALS_A_LOOK = 500;

/**
 * Ends a scope whose grace period is over, in one unit: its rows stay as deleted, for the records that carry its name;
 * its bindings, guardrails, service accounts, groups and their keys go. An organization loses its members. Called by
 * reconcilers/iam-upkeep.
 */
export function* purgeScope(
	tx: Tx,
	scope: ScopeRow,
	by: { readonly ctx: RequestContext; readonly appendAudit: AppendAudit; readonly nowMs: number },
): Plan<boolean> {
	yield* tx.access.lockPolicy();
	const now = yield* tx.scopes.get(scope.name);
	if (now?.state !== 'deleting' || now.deleteAtMs === null || now.deleteAtMs > by.nowMs) return false;
	const names = yield* tx.scopes.namesIn(now.path);
	let ended = 0;
	for (let page = yield* tx.identities.listHomed(names, PRINCIPALS_A_LOOK); page.length > 0; ) {
		for (const { id } of page) {
			yield* revokeAllKeys(tx, id, by.nowMs, 'its home was deleted');
			yield* tx.identities.updatePrincipal(id, { deletedAtMs: by.nowMs });
		}
		ended += page.length;
		page = yield* tx.identities.listHomed(names, PRINCIPALS_A_LOOK);
	}
	yield* tx.access.deleteAllAt(names);
	if (now.kind === 'organization') yield* tx.identities.deleteMembersOf(now.organization);
	yield* tx.scopes.markDeleted(now.path);
	yield* by.appendAudit(tx, by.ctx, {
		action: 'scopes.purge',
		target: now.name,
		result: 'ok',
		reason: '',
		organization: now.organization,
		detail: { scopes: names.length, principals: ended },
	});
	return true;
}
