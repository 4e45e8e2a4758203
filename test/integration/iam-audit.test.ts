import type { DescMethod } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { checkedPolicy } from '../../control-plane/app/iam/method-policy.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { AuditClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { ApiWorld } from './api-world.ts';
import { iamRequest } from './iam-requests.ts';
import { type IamSample, insertIamSample } from './iam-sample.ts';
import { idOf } from './iam-world.ts';
import { rawCall } from './raw-api.ts';

/**
 * Every change of identity and access, done once with success, leaves exactly one record of its organization. On PostgreSQL too:
 * there a tenant's owner does it under row security, which must not stand in the way of one's own.
 */
let world: ApiWorld;
let server: PostgresServer;
beforeAll(async () => {
	server = await PostgresServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

async function startWorld(dialect: 'sqlite' | 'postgres'): Promise<void> {
	const api = { connectionsPerAddressMax: 2000 };
	if (dialect === 'sqlite') world = await ApiWorld.start({ api });
	else {
		const url = await server.createDatabase();
		world = await ApiWorld.start({ api, openStore: (deps) => openStore(url, deps) });
	}
}

const CHANGES = API_SERVICES.flatMap((service) => service.methods)
	.filter(({ parent }) => parent.typeName.startsWith('gpuaas.iam.'))
	.filter((method) =>
		[AuditClass.MUTATION, AuditClass.PRIVILEGED].some((audit) => audit === checkedPolicy(method).audit),
	);

/** What some calls need before, and what differs in their requests. */
const FIRST: Readonly<Record<string, (sample: IamSample, key: string) => Promise<Record<string, unknown>>>> = {
	CreateScope: async ({ scope }) => ({ parent: scope.split('/projects/')[0] }),
	CreateRole: async ({ scope }) => ({ parent: scope.split('/projects/')[0] }),
	CreateBinding: async () => ({ role: 'tenant.billing' }),
	ResumeScope: async ({ scope }, key) => {
		const client = world.client(ScopeService, key);
		const { scope: suspended } = await client.suspendScope({ name: scope, reason: 'x', etag: 'v1' });
		return { etag: suspended?.etag };
	},
	DeleteScope: async ({ scope }, key) => {
		const { plan } = await world.client(ScopeService, key).planScopeDeletion({ name: scope });
		return { planDigest: plan?.planDigest };
	},
	RotateMyKey: (_sample, key) => ownKey(key),
	RevokeMyKey: (_sample, key) => ownKey(key),
};

async function ownKey(key: string): Promise<Record<string, unknown>> {
	const made = await world.client(KeyService, key).createMyKey({ displayName: 'own' });
	return { keyId: made.key?.name, etag: made.key?.etag };
}

describe.each(['sqlite', 'postgres'] as const)('on %s', (dialect) => {
	beforeAll(() => startWorld(dialect));
	afterAll(() => world[Symbol.asyncDispose]());

	test.each(CHANGES.map((method) => [method.name, method] as const))('%s', async (name, method: DescMethod) => {
		const organization = `o${name.toLowerCase()}`;
		const suffix = name.toLowerCase();
		const sample = await world.deps.store.unit((tx) => insertIamSample(tx, organization, 'train', suffix));
		const policy = checkedPolicy(method);
		const ofPlatform = policy.target === 'platform';
		const key = ofPlatform
			? world.operatorKey
			: await world.addPrincipal('operator', 'tenant.owner', `organizations/${organization}`);
		const more = await FIRST[name]?.(sample, key);
		const before = (await world.audit()).length;
		const request = { ...iamRequest(method, sample), ...more };
		const path = `/${method.parent.typeName}/${name}`;
		const answer = await rawCall(world, { path, body: JSON.stringify(clean(method, request)), key });
		expect(answer.status, answer.body.toString()).toBe(200);
		const fresh = (await world.audit()).slice(before);
		expect(fresh).toHaveLength(1);
		expect(fresh[0]).toMatchObject({ result: 'ok', method: policy.name });
		if (!ofPlatform && policy.target === 'scope') expect(fresh[0]?.organization).toBe(organization);
		expect(JSON.stringify(fresh[0])).not.toMatch(/gpu_(sk|uk|inv)_/);
	});

	test('a tenant shortens the consent that it gave to the support', async () => {
		const parent = 'organizations/consenting';
		await world.deps.store.unit((tx) => insertIamSample(tx, 'consenting', 'train', 'consent'));
		const access = world.client(AccessService, await world.addPrincipal('operator', 'tenant.owner', parent));
		const principalId = idOf(await world.addPrincipal('user', 'platform.support', 'platform'));
		const hours = (count: number) => timestampFromMs(world.deps.clock.now() + count * 3_600_000);
		const consent = { parent, principalId, role: 'tenant.support', permissions: ['tasks.get'], expiresAt: hours(4) };
		const { binding } = await access.createBinding(consent);
		const { name = '', etag = '' } = binding ?? {};
		const shortened = await access.updateBinding({ name, etag, expiresAt: hours(1), reason: 'done soon' });
		expect(shortened.binding).toMatchObject({ reason: 'done soon', role: 'tenant.support' });
	});
});

/** Only what the method has. */
function clean(method: DescMethod, request: Record<string, unknown>): Record<string, unknown> {
	const names = new Set(method.input.fields.map(({ localName }) => localName));
	return Object.fromEntries(Object.entries(request).filter(([name]) => names.has(name)));
}
