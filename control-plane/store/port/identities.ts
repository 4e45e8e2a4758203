import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

export type PrincipalKind = 'operator' | 'user' | 'service_account' | 'group';

/** Whoever a role can be given to. Users are global and may belong to several organizations. */
export interface PrincipalRow {
	readonly id: string;
	readonly kind: PrincipalKind;
	readonly displayName: string;
	/** Of a service account and a group: id of their organization; null when the platform's own, and for people. */
	readonly organization: string | null;
	/** Of a service account and a group: name of the scope that they live and die with. */
	readonly home: string | null;
	/** Of a service account and a group: unique in the organization; else empty. */
	readonly name: string;
	/** Of a user: lower case, as the provider verified it; else empty. */
	readonly email: string;
	/** Of a service account: the user who answers for it. */
	readonly ownerId: string | null;
	readonly createdAtMs: number;
	readonly disabledAtMs: number | null;
	readonly disabledReason: string;
	readonly deletedAtMs: number | null;
	readonly version: number;
}

export type PrincipalPatch = Partial<
	Pick<PrincipalRow, 'displayName' | 'email' | 'ownerId' | 'disabledAtMs' | 'disabledReason' | 'deletedAtMs'>
>;

/** One login of a person: (issuer, subject) keys it, and the same subject at another issuer is a stranger. */
export interface UserIdentityRow {
	readonly issuer: string;
	readonly subject: string;
	readonly principalId: string;
	readonly email: string;
	readonly emailVerified: boolean;
	readonly createdAtMs: number;
	readonly lastLoginAtMs: number | null;
	/** Of the last login, as its token said: how strong it was. */
	readonly lastAcr: string;
	/** By which methods, separated by spaces. */
	readonly lastAmr: string;
	/** When the person showed them; null where the provider doesn't say. */
	readonly lastAuthTimeMs: number | null;
}

/** What a login brought. */
export type SeenLogin = Pick<UserIdentityRow, 'email' | 'emailVerified' | 'lastAcr' | 'lastAmr' | 'lastAuthTimeMs'> & {
	readonly lastLoginAtMs: number;
};

export interface MemberRow {
	/** Id of the organization. */
	readonly organization: string;
	readonly principalId: string;
	readonly joinedAtMs: number;
	readonly addedBy: string;
}

export interface GroupMemberRow {
	readonly groupId: string;
	readonly principalId: string;
	readonly addedAtMs: number;
	readonly addedBy: string;
}

/** Principals and who belongs where. Every change raises the policy epoch in the same unit. */
export interface Identities {
	insertPrincipal(row: PrincipalRow): Plan<void>;
	getPrincipal(id: string): Plan<PrincipalRow | undefined>;
	/** In no order. */
	getPrincipals(ids: readonly string[]): Plan<readonly PrincipalRow[]>;
	/** Of a service account or group that isn't deleted. */
	getByName(organization: string, kind: PrincipalKind, name: string): Plan<PrincipalRow | undefined>;
	/** Of an organization's service accounts or groups, those that aren't deleted. */
	countNamed(organization: string, kind: PrincipalKind): Plan<number>;
	updatePrincipal(id: string, patch: PrincipalPatch, ifVersion?: number): Plan<PrincipalRow | undefined>;
	/** Not deleted; by id. */
	listPrincipals(
		page: Page & { readonly kind: PrincipalKind; readonly home: string | null },
	): Plan<readonly PrincipalRow[]>;
	/** Service accounts and groups whose home is one of these scopes and that aren't deleted. */
	listHomed(homes: readonly string[], limit: number): Plan<readonly PrincipalRow[]>;

	/** Throws ALREADY_EXISTS. */
	insertUserIdentity(row: UserIdentityRow): Plan<void>;
	getUserIdentity(issuer: string, subject: string): Plan<UserIdentityRow | undefined>;
	/** By principal. */
	listUserIdentities(principalIds: readonly string[]): Plan<readonly UserIdentityRow[]>;
	/** Of an issuer, of users who are neither suspended nor deleted; by subject, after this one. */
	listActiveIdentities(issuer: string, afterSubject: string, limit: number): Plan<readonly UserIdentityRow[]>;
	/** Raises no epoch: it says nothing about who may do what. */
	recordLogin(issuer: string, subject: string, seen: SeenLogin): Plan<void>;

	/** Throws ALREADY_EXISTS. */
	insertMember(row: MemberRow): Plan<void>;
	getMember(organization: string, principalId: string): Plan<MemberRow | undefined>;
	deleteMember(organization: string, principalId: string): Plan<boolean>;
	deleteMembersOf(organization: string): Plan<void>;
	/** By principal id. */
	listMembers(page: Page & { readonly organization: string }): Plan<readonly MemberRow[]>;
	listMemberships(principalId: string): Plan<readonly MemberRow[]>;

	/** Throws ALREADY_EXISTS. */
	insertGroupMember(row: GroupMemberRow): Plan<void>;
	/** From all groups of the organization. */
	deleteGroupMembersIn(organization: string, principalId: string): Plan<void>;
	deleteGroupMember(groupId: string, principalId: string): Plan<boolean>;
	listGroupMembers(page: Page & { readonly groupId: string }): Plan<readonly GroupMemberRow[]>;
	/** The groups that the principal is in and that aren't deleted. */
	groupsOf(principalId: string): Plan<readonly PrincipalRow[]>;
}
