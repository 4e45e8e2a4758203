import { ROLES } from '../../control-plane/app/iam/roles.ts';
import { present } from '../../kit/assert.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { ScopeKind, ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { principalRow } from '../contract/store/rows.ts';
import { idOf } from '../integration/iam-world.ts';
import { OWN, type Run, THEIRS } from './calls.ts';
import type { Rpc } from './cases.ts';
import { addSample, type Sample } from './sample.ts';

/**
 * Who else must not reach it: beside the owner of another organization (the matrix's own stranger, who tries every case),
 * those who nearly may. `alike`: what is not theirs reads as what is nobody's. `refused`: they see it and can't change it.
 */
export interface Stranger {
	readonly name: string;
	readonly key: string;
	readonly principalId: string;
	readonly judged: 'alike' | 'refused';
	/** What they have themselves. */
	readonly own: Sample;
	/** What it is tried on. */
	readonly on: Sample;
	/** Ids of the organizations that they may read of. */
	readonly organizations: readonly string[];
	/** Why row security alone can't keep them out; empty where it must. */
	readonly byApplicationAlone: string;
	/** Whether it takes something of them that an RPC needs, so that it is tried. */
	tries(rpc: Rpc): boolean;
	/** A call that shows that they are who they are; its reason. */
	readonly lives: {
		readonly method: typeof ScopeService.method.getScope;
		readonly name: string;
		readonly reason: string;
	};
}

export const STRANGERS = [
	'a member whose membership has just ended',
	'the owner of an organization with the same names',
	'a service account of a sibling project',
	'the owner, by a key that has expired',
	'the owner of a suspended organization',
	'the owner of a suspended organization, at home',
	'a viewer',
] as const;

type Part = Pick<Stranger, 'key' | 'on' | 'own' | 'organizations'> & Partial<Stranger>;

/** Made once a run, through the API where there is one. */
export async function strangersOf(run: Run): Promise<readonly Stranger[]> {
	const { own, theirs } = run.parties;
	const [former, namesake, sibling, expired] = [
		await formerMember(run),
		await namesakeOwner(run),
		await siblingAccount(run),
		await run.world.addPrincipal('operator', 'tenant.owner', `organizations/${THEIRS}`, -1),
	];
	const suspended = await suspendedOwner(run);
	const viewer = await run.world.addPrincipal('operator', 'tenant.viewer', `organizations/${THEIRS}`);
	const parts: readonly Part[] = [
		{ key: former, own, on: theirs, organizations: [OWN] },
		{ ...namesake, on: theirs, organizations: ['twin'] },
		{ ...sibling, on: theirs, organizations: [THEIRS], byApplicationAlone: SAME_ORGANIZATION },
		{ key: expired, own: theirs, on: theirs, organizations: [], lives: reads(theirs, 'UNAUTHENTICATED') },
		{ ...suspended, on: theirs, organizations: ['suspended'] },
		{ ...suspended, on: suspended.own, organizations: ['suspended'], ...atHome },
		{
			key: viewer,
			own: theirs,
			on: theirs,
			organizations: [THEIRS],
			...atHome,
			tries: (rpc) => changes(rpc) && !holds('tenant.viewer', rpc),
		},
	];
	return STRANGERS.map((name, index) => {
		const part = present(parts[index], 'each has a name');
		const usual = { judged: 'alike', byApplicationAlone: '', tries: () => true, lives: reads(part.own) } as const;
		return { name, principalId: idOf(part.key), ...usual, ...part };
	});
}

const SAME_ORGANIZATION =
	'of the organization itself: row security knows whose rows they are, and projects, roles and suspension are the application’s';

const atHome = {
	judged: 'refused',
	byApplicationAlone: SAME_ORGANIZATION,
	// Ending the suspension of what stands below is a matter of what stands above.
	tries: (rpc: Rpc) => changes(rpc) && rpc.policy.permission !== 'scopes.resume',
} as const;

function reads({ iam }: Sample, reason = 'OK'): Stranger['lives'] {
	return { method: ScopeService.method.getScope, name: iam.scope, reason };
}

/** Of something, not of oneself. */
function changes({ policy }: Rpc): boolean {
	return !policy.reads && ['node', 'task', 'recording', 'terminal', 'scope'].includes(policy.target);
}

function holds(role: string, { policy }: Rpc): boolean {
	return ROLES[role]?.permissions.has(policy.permission) === true;
}

/** Was the owner of the other organization until a moment ago, has called it, and owns another one still. */
async function formerMember({ world, owner, parties }: Run): Promise<string> {
	const key = await world.addPrincipal('operator', 'tenant.owner', `organizations/${OWN}`);
	const principalId = idOf(key);
	const parent = `organizations/${THEIRS}`;
	await world.deps.store.unit((tx) =>
		tx.identities.insertMember({ organization: THEIRS, principalId, joinedAtMs: 1, addedBy: owner.principalId }),
	);
	await world.client(AccessService, owner.key).createBinding({ parent, principalId, role: 'tenant.owner' });
	await world.client(ScopeService, key).getScope({ name: parties.theirs.iam.scope });
	await world.client(PrincipalService, owner.key).removeMember({ name: `${parent}/members/${principalId}` });
	return key;
}

/** In whose organization everything is called as in the other. */
async function namesakeOwner({ world, parties }: Run): Promise<Pick<Stranger, 'key' | 'own'>> {
	const { iam } = parties.theirs;
	const key = await world.addPrincipal('operator', 'tenant.owner', 'organizations/twin');
	const sample = await addSample(world, 'twin', idOf(key));
	const project = iam.scope.split('/').at(-1) ?? '';
	const scope = `organizations/twin/projects/${project}`;
	await world.client(ScopeService, key).createScope({
		parent: 'organizations/twin',
		kind: ScopeKind.PROJECT,
		id: project,
		displayName: project,
	});
	await world.deps.store.unit(function* (tx) {
		for (const [kind, name] of [
			['group', `group-${iam.suffix}`],
			['service_account', `account-${iam.suffix}`],
		] as const)
			yield* tx.identities.insertPrincipal(
				principalRow(`twin-${name}`, { kind, name, organization: 'twin', home: scope }),
			);
	});
	return { key, own: { ...sample, iam: { ...iam, scope } } };
}

async function siblingAccount({ world, owner, parties }: Run): Promise<Pick<Stranger, 'key' | 'own' | 'principalId'>> {
	const parent = `organizations/${THEIRS}/projects/sibling`;
	await world.client(ScopeService, owner.key).createScope({
		parent: `organizations/${THEIRS}`,
		kind: ScopeKind.PROJECT,
		id: 'sibling',
		displayName: 'sibling',
	});
	const principals = world.client(PrincipalService, owner.key);
	const { principal } = await principals.createServiceAccount({ parent, id: 'robot', displayName: 'robot' });
	const principalId = principal?.id ?? '';
	await world.client(AccessService, owner.key).createBinding({ parent, principalId, role: 'tenant.developer' });
	const { secret } = await world
		.client(KeyService, owner.key)
		.createKey({ serviceAccount: principal?.name ?? '', displayName: 'robot' });
	const own = { ...parties.own, organization: THEIRS, iam: { ...parties.own.iam, scope: parent } };
	return { key: secret, principalId, own };
}

async function suspendedOwner({ world }: Run): Promise<Pick<Stranger, 'key' | 'own'>> {
	const parent = 'organizations/suspended';
	const key = await world.addPrincipal('operator', 'tenant.owner', parent);
	const own = await addSample(world, 'suspended', idOf(key));
	const scopes = world.client(ScopeService, world.operatorKey);
	const { scope } = await scopes.getScope({ name: parent });
	await scopes.suspendScope({ name: parent, etag: scope?.etag ?? '', reason: 'unpaid' });
	return { key, own };
}
