import type { RequestContext } from '../../context.ts';
import type { UserIdentityRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import { ownersOf } from '../iam/owners.ts';
import { revokeAllKeys } from '../keys/counted.ts';
import { endLogins } from './end-logins.ts';

export interface LockBy {
	readonly ctx: RequestContext;
	readonly appendAudit: AppendAudit;
	/** Of the revocation: a fresh UUIDv7. */
	readonly id: string;
	readonly nowMs: number;
	readonly why: 'disabled' | 'gone';
}

/**
 * Ends all ways in of a person who may no longer come: the account is suspended, API keys are void (revoked for good, if the
 * directory says that the person was disabled), tokens are void, browser sessions over, and whom they invited stays out. That they were the last owner of an organization keeps no
 * leaver in (the platform gives it its next first owner); the platform's last operator stays, for nobody could undo it.
 */
export function* lockPerson(
	tx: Tx,
	identity: UserIdentityRow,
	by: LockBy,
): Plan<'locked' | 'not open' | 'last operator'> {
	const { issuer, subject, principalId } = identity;
	yield* tx.access.lockPolicy();
	const person = yield* tx.identities.getPrincipal(principalId);
	if (person?.kind !== 'user' || person.disabledAtMs !== null || person.deletedAtMs !== null) return 'not open';
	const operators = yield* ownersOf(tx, 'platform', 'platform.operator');
	if (operators.length > 0 && operators.every((binding) => binding.principalId === principalId)) return 'last operator';
	const why = by.why === 'gone' ? 'no longer known to the provider' : 'disabled at the provider';
	const to = { disabledAtMs: by.nowMs, disabledReason: why };
	// Changed by somebody else at this moment: looked at again.
	if ((yield* tx.identities.updatePrincipal(principalId, to, person.version)) === undefined) return 'not open';
	// A suspended person's keys are void as long as that lasts. For good only by what the directory says in so many words:
	// one that shows some people no longer knows nothing of whether they left.
	if (by.why === 'disabled') yield* revokeAllKeys(tx, principalId, by.nowMs, why);
	const sessions = yield* endLogins(tx, by.id, { issuer, subject, providerSession: '', why }, by.nowMs);
	const invitations = yield* tx.invitations.revokeAllBy(principalId, null, by.nowMs);
	yield* by.appendAudit(tx, by.ctx, {
		action: 'users.suspend',
		target: `users/${principalId}`,
		result: 'ok',
		reason: '',
		detail: { why, issuer, browser_sessions: sessions, invitations },
	});
	return 'locked';
}
