import type { Rng } from '../../../kit/ids.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { PrincipalRow, UserIdentityRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { VerifiedToken } from './token-verifier.ts';

export interface KnownUser {
	readonly identity: UserIdentityRow;
	readonly principal: PrincipalRow;
}

/** By issuer and subject, and by nothing else: the same subject at another issuer, or the same address, is a stranger. */
export function* findUser(tx: Tx, { issuer, subject }: VerifiedToken): Plan<KnownUser | undefined> {
	const identity = yield* tx.identities.getUserIdentity(issuer, subject);
	const principal = identity === undefined ? undefined : yield* tx.identities.getPrincipal(identity.principalId);
	return identity === undefined || principal === undefined ? undefined : { identity, principal };
}

/** A new user with this login. Throws ALREADY_EXISTS when another request was faster. */
export function* createUser(tx: Tx, token: VerifiedToken, nowMs: number, rng: Rng): Plan<KnownUser> {
	const { issuer, subject, email, emailVerified } = token;
	const principal: PrincipalRow = {
		id: uuidv7(nowMs, rng),
		kind: 'user',
		displayName: token.displayName || email || subject,
		organization: null,
		home: null,
		name: '',
		email: emailVerified ? email : '',
		ownerId: null,
		createdAtMs: nowMs,
		disabledAtMs: null,
		disabledReason: '',
		deletedAtMs: null,
		version: 1,
	};
	const identity: UserIdentityRow = {
		issuer,
		subject,
		principalId: principal.id,
		email,
		emailVerified,
		createdAtMs: nowMs,
		lastLoginAtMs: null,
		lastAcr: '',
		lastAmr: '',
		lastAuthTimeMs: null,
	};
	yield* tx.identities.insertPrincipal(principal);
	yield* tx.identities.insertUserIdentity(identity);
	return { identity, principal };
}
