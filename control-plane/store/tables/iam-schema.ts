import type { BindingRow, GuardrailRow, RoleRow, RoleVersionRow } from '../port/access.ts';
import type { ApiKeyRow, CredentialRow, CredentialUseRow } from '../port/api-keys.ts';
import type { GroupMemberRow, MemberRow, PrincipalRow, UserIdentityRow } from '../port/identities.ts';
import type { InvitationRow } from '../port/invitations.ts';
import type { ScopeRow } from '../port/scopes.ts';
import { Table } from './columns.ts';

/** The tables of identity and access; schema.ts has all others. */
export const SCOPES = new Table<ScopeRow>('scopes', {
	name: 'text',
	kind: 'text',
	organization: 'text',
	id: 'text',
	parent: 'text',
	path: 'text',
	displayName: 'text',
	skeleton: 'text',
	state: 'text',
	stateReason: 'text',
	deleteAtMs: 'int',
	createdAtMs: 'int',
	createdBy: 'text',
	version: 'int',
});

export const PRINCIPALS = new Table<PrincipalRow>('principals', {
	id: 'text',
	kind: 'text',
	displayName: 'text',
	organization: 'text',
	home: 'text',
	name: 'text',
	email: 'text',
	ownerId: 'text',
	createdAtMs: 'int',
	disabledAtMs: 'int',
	disabledReason: 'text',
	deletedAtMs: 'int',
	version: 'int',
});

export const USER_IDENTITIES = new Table<UserIdentityRow>('user_identities', {
	issuer: 'text',
	subject: 'text',
	principalId: 'text',
	email: 'text',
	emailVerified: 'bool',
	createdAtMs: 'int',
	lastLoginAtMs: 'int',
	lastAcr: 'text',
	lastAmr: 'text',
	lastAuthTimeMs: 'int',
});

export const MEMBERS = new Table<MemberRow>('members', {
	organization: 'text',
	principalId: 'text',
	joinedAtMs: 'int',
	addedBy: 'text',
});

export const GROUP_MEMBERS = new Table<GroupMemberRow>('group_members', {
	groupId: 'text',
	principalId: 'text',
	addedAtMs: 'int',
	addedBy: 'text',
});

export const API_KEYS = new Table<ApiKeyRow>('api_keys', {
	id: 'text',
	principalId: 'text',
	displayName: 'text',
	permissions: 'json',
	scope: 'text',
	cidrs: 'json',
	createdAtMs: 'int',
	createdBy: 'text',
	revokedAtMs: 'int',
	revokedReason: 'text',
	version: 'int',
});

export const CREDENTIALS = new Table<CredentialRow>('credentials', {
	id: 'text',
	principalId: 'text',
	keyId: 'text',
	mac: 'bytes',
	pepperVersion: 'int',
	createdAtMs: 'int',
	expiresAtMs: 'int',
	revokedAtMs: 'int',
});

export const CREDENTIAL_USES = new Table<CredentialUseRow>('credential_uses', {
	credentialId: 'text',
	usedAtMs: 'int',
	peer: 'text',
});

export const ROLES = new Table<RoleRow>('roles', {
	name: 'text',
	organization: 'text',
	displayName: 'text',
	permissions: 'json',
	createdAtMs: 'int',
	createdBy: 'text',
	deletedAtMs: 'int',
	version: 'int',
});

export const ROLE_VERSIONS = new Table<RoleVersionRow>('role_versions', {
	role: 'text',
	version: 'int',
	permissions: 'json',
	atMs: 'int',
	changedBy: 'text',
});

export const BINDINGS = new Table<BindingRow>('bindings', {
	id: 'text',
	principalId: 'text',
	role: 'text',
	scope: 'text',
	permissions: 'json',
	reason: 'text',
	createdAtMs: 'int',
	createdBy: 'text',
	expiresAtMs: 'int',
	version: 'int',
});

export const GUARDRAILS = new Table<GuardrailRow>('guardrails', {
	id: 'text',
	scope: 'text',
	permissions: 'json',
	principalKinds: 'json',
	reason: 'text',
	createdAtMs: 'int',
	createdBy: 'text',
	version: 'int',
});

export const INVITATIONS = new Table<InvitationRow>('invitations', {
	id: 'text',
	organization: 'text',
	email: 'text',
	tokenSha256: 'bytes',
	role: 'text',
	scope: 'text',
	createdAtMs: 'int',
	createdBy: 'text',
	expiresAtMs: 'int',
	acceptedAtMs: 'int',
	acceptedBy: 'text',
	revokedAtMs: 'int',
	version: 'int',
});
