import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { checkedPolicy } from '../../control-plane/app/iam/method-policy.ts';
import { FeatureService } from '../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { EntitlementService, QuotaKind, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { ApiWorld } from './api-world.ts';
import { iamRequest } from './iam-requests.ts';
import { type IamSample, insertIamSample } from './iam-sample.ts';
import { rawCall } from './raw-api.ts';

/**
 * Each RPC that takes an etag, over the API: one that is not of what is there now is refused and changes nothing, so that the
 * same request with the right one still succeeds afterwards.
 */
let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start({ api: { connectionsPerAddressMax: 2000 } });
});
afterAll(() => world[Symbol.asyncDispose]());

const TAKING_ETAGS = API_SERVICES.flatMap((service) => service.methods).filter(({ input }) =>
	input.fields.some(({ localName }) => localName === 'etag'),
);

type Request = Readonly<Record<string, unknown>>;

/** Of what is no identity and access, or needs something before. */
const REQUESTS: Readonly<Record<string, (sample: IamSample, key: string) => Promise<Request>>> = {
	ResumeScope: async ({ scope: name }, key) => {
		const { scope } = await world.client(ScopeService, key).suspendScope({ name, reason: 'x', etag: 'v1' });
		return { etag: scope?.etag };
	},
	RotateMyKey: async (_sample, key) => {
		const { key: own } = await world.client(KeyService, key).createMyKey({ displayName: 'own' });
		return { keyId: own?.name, etag: own?.etag };
	},
	SetNodeLabels: async () => ({ node: (await world.addNode()).id, labels: { a: 'b' }, etag: 'v1' }),
	SetQuota: async ({ scope }) => {
		const { quotas } = await world.client(QuotaService, world.operatorKey).getQuota({ scope });
		return {
			scope,
			kind: 'QUOTA_KIND_API_KEYS',
			limit: 5,
			etag: quotas.find(({ kind }) => kind === QuotaKind.API_KEYS)?.etag,
		};
	},
	EndEntitlement: async ({ scope: parent }) => {
		const client = world.client(EntitlementService, world.operatorKey);
		const { entitlement } = await client.grantEntitlement({ parent, subject: 'feature/host-mode' });
		return { name: entitlement?.name, etag: entitlement?.etag };
	},
	SetFeature: async ({ scope }) => await ruled(scope, { percentage: 20, reason: 'more' }),
	UnsetFeature: async ({ scope }) => await ruled(scope, {}),
};

async function ruled(scope: string, more: Request): Promise<Request> {
	const feature = 'quota-warnings';
	const set = { feature, scope, percentage: 10, reason: 'some' };
	const { rule } = await world.client(FeatureService, world.operatorKey).setFeature(set);
	return { feature, scope, etag: rule?.etag, ...more };
}

test.each(TAKING_ETAGS.map((method) => [method.name, method] as const))('%s', async (name, method: DescMethod) => {
	const organization = `o${name.toLowerCase()}`;
	const sample = await world.deps.store.unit((tx) => insertIamSample(tx, organization, 'train', name.toLowerCase()));
	const isTenants = method.parent.typeName.startsWith('gpuaas.iam.') && checkedPolicy(method).target !== 'platform';
	const key = isTenants
		? await world.addPrincipal('operator', 'tenant.owner', `organizations/${organization}`)
		: world.operatorKey;
	const request: Request = { ...iamRequest(method, sample), ...(await REQUESTS[name]?.(sample, key)) };
	const send = (etag: unknown) => {
		const path = `/${method.parent.typeName}/${name}`;
		return rawCall(world, { path, body: JSON.stringify({ ...request, etag }), key });
	};
	const stale = await send('v4711');
	expect([stale.status, stale.body.toString()]).toEqual([409, expect.stringContaining('"ETAG_MISMATCH"')]);
	const right = await send(request.etag);
	expect(right.status, right.body.toString()).toBe(200);
});
