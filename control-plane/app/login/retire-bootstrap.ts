import type { RequestContext } from '../../context.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import { BOOTSTRAP_PRINCIPAL_ID } from '../iam/bootstrap.ts';

/** Who holds one of these at the platform can do, as a person, what the bootstrap operator was made for. */
const OWNER_ROLES: ReadonlySet<string> = new Set(['platform.operator']);

/**
 * Ends the bootstrap operator when an owner of the platform has logged in as a person: from then on nobody is anonymous.
 * In the unit of that login; does nothing for anybody else, or when it is done.
 */
export function* retireBootstrap(
	tx: Tx,
	ctx: RequestContext,
	deps: { readonly appendAudit: AppendAudit },
	principalId: string,
	nowMs: number,
): Plan<boolean> {
	const bindings = yield* tx.access.listBindings([principalId]);
	const isOwner = bindings.some(
		({ role, scope, permissions, expiresAtMs }) =>
			scope === 'platform' && OWNER_ROLES.has(role) && permissions.length === 0 && expiresAtMs === null,
	);
	if (!isOwner) return false;
	const bootstrap = yield* tx.identities.getPrincipal(BOOTSTRAP_PRINCIPAL_ID);
	if (bootstrap === undefined || bootstrap.disabledAtMs !== null) return false;
	// Before its row, as all do who change who may do what.
	yield* tx.access.lockPolicy();
	yield* tx.identities.updatePrincipal(BOOTSTRAP_PRINCIPAL_ID, {
		disabledAtMs: nowMs,
		disabledReason: 'an owner of the platform has logged in',
	});
	yield* tx.apiKeys.revokeAllOf(BOOTSTRAP_PRINCIPAL_ID, nowMs, 'an owner of the platform has logged in');
	yield* deps.appendAudit(tx, ctx, {
		action: 'identities.retire_bootstrap',
		target: `principals/${BOOTSTRAP_PRINCIPAL_ID}`,
		result: 'ok',
		reason: '',
		detail: { owner: principalId },
	});
	return true;
}
