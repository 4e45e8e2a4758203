import type { Message } from '@bufbuild/protobuf';
import { assert } from '../../../kit/assert.ts';
import type { Actor, Assurance, CredentialLimits, RequestContext } from '../../context.ts';
import type { ApiKeyRow, CredentialRow } from '../../store/port/api-keys.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { BREAK_GLASS_PRINCIPAL_ID } from '../break-glass/rules.ts';
import type { Person, VerifiedToken } from '../login/token-verifier.ts';
import { type Access, NO_ACCESS } from './access.ts';
import { type CompiledLimit, UNLIMITED } from './decide.ts';
import { permissionSet } from './permissions.ts';
import type { PolicyView } from './policy-view.ts';

/** What an actor proved who it is with: a row of `credentials`, a token of a provider, or a session in a browser. */
export type CredentialKind = 'none' | 'api_key' | 'access_token' | 'browser_session' | 'break_glass';

/** An actor who came with a credential, as of one policy epoch. */
export interface PrincipalActor extends Actor {
	readonly credentialKind: CredentialKind;
	readonly limits: CredentialLimits;
	/** `limits`, compiled. */
	readonly limit: CompiledLimit;
	/** What the principal holds. */
	readonly access: Access;
	/** Ids of those it belongs to; of a service account, its home's too. */
	readonly organizations: readonly string[];
	/** Of people who logged in at a provider; absent for API keys. */
	readonly assurance?: Assurance;
	/** The token itself, of people who came with one; with kind `anonymous`: of somebody who isn't known here. */
	readonly login?: VerifiedToken;
	/** Of people in a browser, whose tokens stay away from it. */
	readonly person?: Person;
	/** Of the store when the access was read; a higher one means: read it again. */
	readonly policyEpoch: number;
}

/** What the API's use cases are called with. */
export interface CallContext extends RequestContext {
	readonly actor: PrincipalActor;
	/** Of a two-person approval that the caller names. */
	readonly approvalId?: string;
	/** What became known of the call's object, for the record of a refusal; set by `authorizedTarget`. */
	readonly about?: CallAbout;
	/** Ends the stream without an answer: for whoever was refused on it and doesn't read that. */
	readonly cut?: () => void;
	/**
	 * Of a stream: sends a message of the answer, behind those that its iterator gave, and without the some twenty promises
	 * that each of those costs. Resolves when the next may come, undefined: at once; rejects or throws when nobody takes any
	 * more. Undefined where only the iterator leads to the caller.
	 */
	readonly push?: (message: Message) => Promise<void> | undefined;
}

export interface CallAbout {
	/** Id of the organization that the object stands in, once the caller is known to be allowed to see it. */
	organization?: string;
}

export const NO_LIMITS: CredentialLimits = Object.freeze({ permissions: [], scope: '', cidrs: [] });

export const ANONYMOUS: PrincipalActor = Object.freeze({
	kind: 'anonymous',
	id: '',
	displayName: '',
	credentialId: '',
	credentialKind: 'none',
	limits: NO_LIMITS,
	limit: UNLIMITED,
	access: NO_ACCESS,
	organizations: NO_ACCESS.organizations,
	credentialExpiresAtMs: null,
	policyEpoch: 0,
});

/** What an edge verified about a caller, before the store is asked who that is. */
export interface VerifiedCredential {
	readonly kind: CredentialKind;
	readonly id: string;
	readonly expiresAtMs: number | null;
	readonly limits: CredentialLimits;
	readonly assurance?: Assurance;
}

export interface LoadedCredential {
	readonly credential: CredentialRow;
	readonly key: ApiKeyRow | undefined;
	readonly principal: PrincipalRow;
	/** Why nobody may act as the principal, if so. */
	readonly unusable: Unusable | undefined;
	readonly actor: PrincipalActor;
}

/** The API key's secret with its principal and what that holds at `nowMs`, whether or not it may still be used. */
export function* loadCredential(
	tx: Tx,
	view: PolicyView,
	credentialId: string,
	nowMs: number,
): Plan<LoadedCredential | undefined> {
	const credential = yield* tx.apiKeys.getCredential(credentialId);
	if (credential === undefined) return undefined;
	const principal = yield* tx.identities.getPrincipal(credential.principalId);
	if (principal === undefined) return undefined;
	const key = credential.keyId === null ? undefined : yield* tx.apiKeys.find(credential.keyId);
	const limits = key === undefined ? NO_LIMITS : { permissions: key.permissions, scope: key.scope, cidrs: key.cidrs };
	const verified = { kind: 'api_key', id: credential.id, expiresAtMs: credential.expiresAtMs, limits } as const;
	const actor = yield* loadActor(tx, view, principal, verified, nowMs);
	return { credential, key, principal, unusable: yield* unusablePrincipal(tx, view, principal), actor };
}

/** The actor that this principal is with this credential. Whether the principal may act at all: `unusablePrincipal`. */
export function* loadActor(
	tx: Tx,
	view: PolicyView,
	principal: PrincipalRow,
	verified: VerifiedCredential,
	nowMs: number,
): Plan<PrincipalActor> {
	assert(principal.kind !== 'group', 'a group can’t log in');
	const access = yield* view.access(tx, principal.id, nowMs);
	return Object.freeze({
		kind: principal.kind,
		id: principal.id,
		displayName: principal.displayName,
		credentialId: verified.id,
		credentialKind: verified.kind,
		limits: verified.limits,
		limit: yield* compileLimit(tx, view, verified.limits),
		...(verified.assurance === undefined ? {} : { assurance: verified.assurance }),
		access,
		organizations: organizationsOf(access, principal),
		credentialExpiresAtMs: verified.expiresAtMs,
		policyEpoch: view.epoch,
	});
}

function organizationsOf({ organizations }: Access, { organization }: PrincipalRow): readonly string[] {
	if (organization === null || organizations.includes(organization)) return organizations;
	return [...organizations, organization];
}

function* compileLimit(tx: Tx, view: PolicyView, { permissions, scope }: CredentialLimits): Plan<CompiledLimit> {
	if (permissions.length === 0 && scope === '') return UNLIMITED;
	const place = scope === '' ? undefined : yield* view.place(tx, scope);
	return {
		permissions: permissions.length === 0 ? undefined : permissionSet(permissions),
		// The path of no scope: a key whose scope is gone reaches nothing.
		path: scope === '' ? undefined : (place?.path ?? '//'),
	};
}

export type Unusable = 'revoked' | 'expired' | 'disabled' | 'suspended' | 'break_glass';

/** Why the credential can't be used at `nowMs`, if so. */
export function unusable(
	{ credential, key, unusable: principal }: LoadedCredential,
	nowMs: number,
): Unusable | undefined {
	if (credential.revokedAtMs !== null || (key !== undefined && key.revokedAtMs !== null)) return 'revoked';
	if (credential.expiresAtMs <= nowMs) return 'expired';
	if (credential.principalId === BREAK_GLASS_PRINCIPAL_ID) return 'break_glass';
	return principal;
}

/** Why nobody may act as this principal, if so. A service account lives and dies with its home. */
export function* unusablePrincipal(tx: Tx, view: PolicyView, principal: PrincipalRow): Plan<Unusable | undefined> {
	if (principal.disabledAtMs !== null || principal.deletedAtMs !== null) return 'disabled';
	if (principal.home === null) return undefined;
	const home = yield* view.place(tx, principal.home);
	return home?.state === 'active' ? undefined : 'suspended';
}
