import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { type Scope, ScopeKind, ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { principalRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';

/** What one caller can ask of identity and access. */
export function iamClients(world: ApiWorld, key: string | undefined) {
	return {
		scopes: world.client(ScopeService, key),
		principals: world.client(PrincipalService, key),
		access: world.client(AccessService, key),
		keys: world.client(KeyService, key),
	};
}

export type IamClients = ReturnType<typeof iamClients>;

/**
 * An organization with its owner, through the API: the platform makes it, the owner rules it. The owner is of the kind
 * that counts as stepped up without an identity provider.
 */
export class IamWorld implements AsyncDisposable {
	readonly api: ApiWorld;
	readonly operator: IamClients;
	readonly owner: IamClients;
	readonly ownerId: string;
	readonly organization: string;

	private constructor(api: ApiWorld, ownerKey: string, organization: string) {
		this.api = api;
		this.operator = iamClients(api, api.operatorKey);
		this.owner = iamClients(api, ownerKey);
		this.ownerId = idOf(ownerKey);
		this.organization = organization;
	}

	static async start(): Promise<IamWorld> {
		const api = await ApiWorld.start({ api: { connectionsPerAddressMax: 2000 } });
		const ownerKey = await api.addPrincipal('operator', 'tenant.owner', 'organizations/globex');
		return new IamWorld(api, ownerKey, 'organizations/globex');
	}

	/** A member with one role, through a binding that was made directly. */
	async member(role: string, scope = this.organization, kind: 'user' | 'operator' = 'user') {
		const key = await this.api.addPrincipal(kind, role, scope);
		return { key, id: idOf(key), ...iamClients(this.api, key) };
	}

	/** Somebody who logged in once and belongs nowhere. */
	async stranger(id: string): Promise<string> {
		await this.api.deps.store.unit((tx) => tx.identities.insertPrincipal(principalRow(id)));
		return id;
	}

	async scope(parent: string, kind: 'department' | 'project', id: string): Promise<Scope> {
		const wanted = kind === 'project' ? ScopeKind.PROJECT : ScopeKind.DEPARTMENT;
		const { scope } = await this.owner.scopes.createScope({ parent, kind: wanted, id, displayName: id });
		if (scope === undefined) throw new Error('a scope comes back');
		return scope;
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.api[Symbol.asyncDispose]();
	}
}

/** As ApiWorld makes them. */
export function idOf(key: string): string {
	return `principal-${key.split('_')[3] ?? ''}`;
}
