import type { PrincipalKind } from './identities.ts';
import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** principal x role x scope. */
export interface BindingRow {
	readonly id: string;
	/** A user, service account, group or the bootstrap operator. */
	readonly principalId: string;
	/** `tenant.developer`, or the name of a custom role: `organizations/acme/roles/trainer`. */
	readonly role: string;
	/** Name of a scope. */
	readonly scope: string;
	/** Of the role's permissions only these; empty: all. How support with consent is narrowed. */
	readonly permissions: readonly string[];
	readonly reason: string;
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly expiresAtMs: number | null;
	readonly version: number;
}

/** A custom role of an organization. */
export interface RoleRow {
	/** `organizations/acme/roles/trainer`. */
	readonly name: string;
	readonly organization: string;
	readonly displayName: string;
	readonly permissions: readonly string[];
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly deletedAtMs: number | null;
	readonly version: number;
}

export interface RoleVersionRow {
	readonly role: string;
	readonly version: number;
	readonly permissions: readonly string[];
	readonly atMs: number;
	readonly changedBy: string;
}

/** A forbid rule: below its scope nobody of these kinds may do these things, whatever their roles. */
export interface GuardrailRow {
	readonly id: string;
	readonly scope: string;
	/** `tasks.create`, `tasks.*`. */
	readonly permissions: readonly string[];
	/** Empty: everybody. */
	readonly principalKinds: readonly PrincipalKind[];
	readonly reason: string;
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly version: number;
}

/** Who may do what. Every change raises the policy epoch in the same unit. */
export interface Access {
	/** Rises with every change of scopes, principals, credentials, roles, bindings or guardrails. */
	policyEpoch(): Plan<number>;
	/** Serializes those who check a condition over several rows (last owner) before a change: they run one by one. */
	lockPolicy(): Plan<void>;

	insertBinding(row: BindingRow): Plan<void>;
	getBinding(id: string): Plan<BindingRow | undefined>;
	updateBinding(
		id: string,
		patch: Partial<Pick<BindingRow, 'expiresAtMs' | 'reason'>>,
		ifVersion?: number,
	): Plan<BindingRow | undefined>;
	deleteBinding(id: string, ifVersion?: number): Plan<boolean>;
	listBindings(principalIds: readonly string[]): Plan<readonly BindingRow[]>;
	countBindings(principalId: string): Plan<number>;
	/** The binding of exactly this. */
	findBinding(principalId: string, role: string, scope: string): Plan<BindingRow | undefined>;
	/** At exactly these scopes; by id. */
	listBindingsAt(page: Page & { readonly scopes: readonly string[] }): Plan<readonly BindingRow[]>;
	/** Of one role at exactly one scope. */
	listBindingsOfRole(role: string, scope: string | null, limit: number): Plan<readonly BindingRow[]>;
	/** Of the principal at or below a scope of the organization. */
	deleteBindingsIn(organization: string, principalId: string): Plan<number>;
	/** Bindings and guardrails at these scopes. */
	deleteAllAt(scopes: readonly string[]): Plan<void>;
	/** Ended before `nowMs`: rows to sweep. */
	deleteExpiredBindings(beforeMs: number, limit: number): Plan<number>;

	insertRole(row: RoleRow): Plan<void>;
	getRole(name: string): Plan<RoleRow | undefined>;
	getRoles(names: readonly string[]): Plan<readonly RoleRow[]>;
	/** A change of `permissions` keeps the version that it replaces. */
	updateRole(
		name: string,
		patch: Partial<Pick<RoleRow, 'displayName' | 'permissions' | 'deletedAtMs'>>,
		by: { readonly atMs: number; readonly changedBy: string },
		ifVersion?: number,
	): Plan<RoleRow | undefined>;
	/** Not deleted. */
	countRoles(organization: string): Plan<number>;
	/** Not deleted; by name. */
	listRoles(page: Page & { readonly organization: string }): Plan<readonly RoleRow[]>;
	listRoleVersions(name: string, limit: number): Plan<readonly RoleVersionRow[]>;

	insertGuardrail(row: GuardrailRow): Plan<void>;
	getGuardrail(id: string): Plan<GuardrailRow | undefined>;
	deleteGuardrail(id: string, ifVersion?: number): Plan<boolean>;
	/** At exactly these scopes; by id. */
	listGuardrails(page: Page & { readonly scopes: readonly string[] }): Plan<readonly GuardrailRow[]>;
	/** All there are, at most `limit`: few by their nature, and every decision needs those above its object. */
	allGuardrails(limit: number): Plan<readonly GuardrailRow[]>;
}
