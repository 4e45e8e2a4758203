import { deleteBinding, updateBinding } from '../app/access/change-binding.ts';
import { createBinding } from '../app/access/create-binding.ts';
import { explain } from '../app/access/explain.ts';
import { createGuardrail, deleteGuardrail, listGuardrails } from '../app/access/guardrails.ts';
import { listBindings } from '../app/access/list-bindings.ts';
import { createRole, deleteRole, getRole, listRoles, updateRole } from '../app/access/roles.ts';
import { whoCan } from '../app/access/who-can.ts';
import { endEntitlement, grantEntitlement, listEntitlements } from '../app/entitlements/grant.ts';
import { listFeatures } from '../app/features/list.ts';
import { setFeature, unsetFeature } from '../app/features/set.ts';
import { createMyKey, listMyKeys, revokeMyKey, rotateMyKey } from '../app/keys/my-keys.ts';
import { reportLeakedKey } from '../app/keys/report-leaked.ts';
import { createKey, listKeys, revokeKey, rotateKey } from '../app/keys/service-account-keys.ts';
import { createGroup, createServiceAccount } from '../app/principals/create.ts';
import { deleteGroup, deleteServiceAccount } from '../app/principals/delete.ts';
import { getGroup, getServiceAccount } from '../app/principals/get.ts';
import { addGroupMember, removeGroupMember } from '../app/principals/group-members.ts';
import { createInvitation, listInvitations, revokeInvitation } from '../app/principals/invite.ts';
import { listGroupMembers, listGroups, listMembers, listServiceAccounts, listUsers } from '../app/principals/list.ts';
import { listMfaStatus } from '../app/principals/mfa-status.ts';
import { removeMember } from '../app/principals/remove-member.ts';
import { resumeServiceAccount, resumeUser, suspendServiceAccount, suspendUser } from '../app/principals/suspend.ts';
import { getQuota, listQuotaUsage } from '../app/quotas/get.ts';
import { setQuota } from '../app/quotas/set.ts';
import { createScope } from '../app/scopes/create.ts';
import { deleteScope } from '../app/scopes/delete.ts';
import { planScopeDeletion } from '../app/scopes/deletion-plan.ts';
import { getScope } from '../app/scopes/get.ts';
import { listScopes } from '../app/scopes/list.ts';
import { moveScope } from '../app/scopes/move.ts';
import { renameScope } from '../app/scopes/rename.ts';
import { resumeScope } from '../app/scopes/resume.ts';
import { suspendScope } from '../app/scopes/suspend.ts';
import type { UseCase } from '../app/use-case.ts';

/** Identity and access, and what scopes may have: a part of use-cases.ts. */
export const IAM_USE_CASES: readonly UseCase[] = [
	listBindings,
	createBinding,
	deleteBinding,
	updateBinding,
	createRole,
	deleteRole,
	getRole,
	listRoles,
	updateRole,
	createGuardrail,
	deleteGuardrail,
	listGuardrails,
	explain,
	whoCan,
	createKey,
	listKeys,
	revokeKey,
	rotateKey,
	createMyKey,
	listMyKeys,
	revokeMyKey,
	rotateMyKey,
	reportLeakedKey,
	createGroup,
	createServiceAccount,
	listGroupMembers,
	listGroups,
	listMembers,
	listServiceAccounts,
	listUsers,
	listMfaStatus,
	getGroup,
	getServiceAccount,
	deleteGroup,
	deleteServiceAccount,
	resumeServiceAccount,
	resumeUser,
	suspendServiceAccount,
	suspendUser,
	removeMember,
	addGroupMember,
	removeGroupMember,
	createInvitation,
	listInvitations,
	revokeInvitation,
	getScope,
	listScopes,
	createScope,
	renameScope,
	moveScope,
	suspendScope,
	resumeScope,
	planScopeDeletion,
	deleteScope,
	getQuota,
	listQuotaUsage,
	setQuota,
	listEntitlements,
	grantEntitlement,
	endEntitlement,
	listFeatures,
	setFeature,
	unsetFeature,
];
