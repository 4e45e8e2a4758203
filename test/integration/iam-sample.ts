import type { Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { insertProject } from '../contract/store/projects.ts';
import { bindingRow, credentialRow, principalRow } from '../contract/store/rows.ts';

/** Ids of what a project has in identity and access; ids are unique, so that several samples fit into one database. */
export interface IamSample {
	/** `organizations/acme/projects/train` */
	readonly scope: string;
	readonly suffix: string;
	readonly userId: string;
}

export function sampleName(sample: IamSample, collection: string): string {
	const { scope, suffix } = sample;
	if (collection === 'roles') return `${scope.split('/projects/')[0]}/roles/role-${suffix}`;
	if (collection === 'members') return `${scope.split('/projects/')[0]}/members/${sample.userId}`;
	const id = collection === 'groups' ? 'group' : collection === 'serviceAccounts' ? 'account' : collection.slice(0, -1);
	return `${scope}/${collection}/${id}-${suffix}`;
}

/** One of each, in a project that is made when it isn't there. */
export function* insertIamSample(tx: Tx, organization: string, project: string, suffix: string): Plan<IamSample> {
	yield* insertProject(tx, organization, project);
	const scope = `organizations/${organization}/projects/${project}`;
	const home = { organization, home: scope };
	const userId = `user-${suffix}`;
	const accountId = `account-${suffix}`;
	yield* tx.identities.insertPrincipal(principalRow(userId));
	yield* tx.identities.insertMember({ organization, principalId: userId, joinedAtMs: 1, addedBy: userId });
	yield* tx.identities.insertPrincipal(
		principalRow(`group-${suffix}`, { kind: 'group', name: `group-${suffix}`, ...home }),
	);
	yield* tx.identities.insertPrincipal(principalRow(accountId, { kind: 'service_account', name: accountId, ...home }));
	yield* tx.apiKeys.insert({
		id: `key-${suffix}`,
		principalId: accountId,
		displayName: 'sample',
		permissions: [],
		scope: '',
		cidrs: [],
		createdAtMs: 1,
		createdBy: userId,
		revokedAtMs: null,
		revokedReason: '',
		version: 1,
	});
	yield* tx.apiKeys.insertCredential(credentialRow(`c-${suffix}`, accountId, { keyId: `key-${suffix}` }));
	yield* tx.access.insertRole({
		name: `organizations/${organization}/roles/role-${suffix}`,
		organization,
		displayName: 'sample',
		permissions: ['tasks.get'],
		createdAtMs: 1,
		createdBy: userId,
		deletedAtMs: null,
		version: 1,
	});
	yield* tx.access.insertBinding(bindingRow(`binding-${suffix}`, userId, { scope }));
	yield* tx.access.insertGuardrail({
		id: `guardrail-${suffix}`,
		scope,
		permissions: ['ca.rotate'],
		principalKinds: [],
		reason: 'sample',
		createdAtMs: 1,
		createdBy: userId,
		version: 1,
	});
	yield* tx.invitations.insert({
		id: `invitation-${suffix}`,
		organization,
		email: 'ada@acme.example',
		tokenSha256: Buffer.from(suffix.padEnd(32, '-')),
		role: 'tenant.viewer',
		scope,
		createdAtMs: 1,
		createdBy: userId,
		expiresAtMs: 4_000_000_000_000,
		acceptedAtMs: null,
		acceptedBy: null,
		revokedAtMs: null,
		version: 1,
	});
	yield* insertEntitlement(tx, organization, scope, suffix);
	return { scope, suffix, userId };
}

function* insertEntitlement(tx: Tx, organization: string, scope: string, suffix: string): Plan<void> {
	yield* tx.entitlements.insert({
		id: `entitlement-${suffix}`,
		scope,
		organization,
		subject: 'gpu-model/sample',
		fromMs: 1,
		untilMs: null,
		reason: 'sample',
		createdAtMs: 1,
		createdBy: '',
		version: 1,
	});
}
