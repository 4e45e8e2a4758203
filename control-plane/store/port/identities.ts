import type { Plan } from './unit.ts';

export type PrincipalKind = 'operator' | 'user' | 'service_account';

export interface PrincipalRow {
	readonly id: string;
	readonly kind: PrincipalKind;
	readonly displayName: string;
	readonly createdAtMs: number;
	readonly disabledAtMs: number | null;
}

/** A key's verifier: HMAC-SHA256 of the secret under pepper `pepperVersion`; the pepper is outside the database. */
export interface CredentialRow {
	readonly id: string;
	readonly principalId: string;
	readonly mac: Uint8Array;
	readonly pepperVersion: number;
	readonly createdAtMs: number;
	readonly expiresAtMs: number;
	readonly revokedAtMs: number | null;
}

/** principal x role x scope; scope is `platform`, `organizations/o` or `organizations/o/projects/p`. */
export interface BindingRow {
	readonly id: string;
	readonly principalId: string;
	readonly role: string;
	readonly scope: string;
	readonly expiresAtMs: number | null;
}

/** The small start of IAM: enough for the bootstrap operator and for tenant scoping by assignment. */
export interface Identities {
	insertPrincipal(row: PrincipalRow): Plan<void>;
	getPrincipal(id: string): Plan<PrincipalRow | undefined>;
	insertCredential(row: CredentialRow): Plan<void>;
	getCredential(id: string): Plan<CredentialRow | undefined>;
	revokeCredential(id: string, atMs: number): Plan<boolean>;
	insertBinding(row: BindingRow): Plan<void>;
	listBindings(principalId: string): Plan<readonly BindingRow[]>;
	/** Rises with every change of principals, credentials or bindings. */
	policyEpoch(): Plan<number>;
}
