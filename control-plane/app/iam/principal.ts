import type { Actor, ActorKind, RequestContext, RoleBinding } from '../../context.ts';
import type { CredentialRow, PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** An actor who came with a credential, as of one policy epoch. */
export interface PrincipalActor extends Actor {
	/** Of the store when the bindings were read; a higher one means: read them again. */
	readonly policyEpoch: number;
}

/** What the API's use cases are called with. */
export interface CallContext extends RequestContext {
	readonly actor: PrincipalActor;
}

export const ANONYMOUS: PrincipalActor = Object.freeze({
	kind: 'anonymous',
	id: '',
	displayName: '',
	credentialId: '',
	bindings: [],
	credentialExpiresAtMs: null,
	policyEpoch: 0,
});

export interface LoadedCredential {
	readonly credential: CredentialRow;
	readonly principal: PrincipalRow;
	readonly actor: PrincipalActor;
}

/** The credential with its principal and the bindings in force at `nowMs`, whether or not it may still be used. */
export function* loadCredential(tx: Tx, credentialId: string, nowMs: number): Plan<LoadedCredential | undefined> {
	const credential = yield* tx.identities.getCredential(credentialId);
	if (credential === undefined) return undefined;
	const principal = yield* tx.identities.getPrincipal(credential.principalId);
	if (principal === undefined) return undefined;
	const policyEpoch = yield* tx.identities.policyEpoch();
	const bindings: RoleBinding[] = [];
	for (const row of yield* tx.identities.listBindings(principal.id)) {
		if (row.expiresAtMs === null || row.expiresAtMs > nowMs) bindings.push({ role: row.role, scope: row.scope });
	}
	const kind: ActorKind = principal.kind;
	const actor: PrincipalActor = Object.freeze({
		kind,
		id: principal.id,
		displayName: principal.displayName,
		credentialId: credential.id,
		bindings,
		credentialExpiresAtMs: credential.expiresAtMs,
		policyEpoch,
	});
	return { credential, principal, actor };
}

export type Unusable = 'revoked' | 'expired' | 'disabled';

/** Why the credential can't be used at `nowMs`, if so. */
export function unusable(loaded: LoadedCredential, nowMs: number): Unusable | undefined {
	if (loaded.credential.revokedAtMs !== null) return 'revoked';
	if (loaded.credential.expiresAtMs <= nowMs) return 'expired';
	if (loaded.principal.disabledAtMs !== null) return 'disabled';
	return undefined;
}
