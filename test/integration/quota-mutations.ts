import { FeatureService } from '../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { EntitlementService, QuotaKind, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import type { ApiWorld } from './api-world.ts';

/** One successful call of every mutation of quotas, entitlements and features, as the operator. */
export function quotaMutations(world: () => ApiWorld): Record<string, () => Promise<() => Promise<unknown>>> {
	const scope = 'organizations/acme';
	const quotas = () => world().client(QuotaService, world().operatorKey);
	const entitlements = () => world().client(EntitlementService, world().operatorKey);
	const features = () => world().client(FeatureService, world().operatorKey);
	const feature = 'quota-warnings';
	return {
		SetQuota: async () => {
			const { quotas: before } = await quotas().getQuota({ scope });
			const etag = before.find(({ kind }) => kind === QuotaKind.API_KEYS)?.etag ?? '';
			return () => quotas().setQuota({ scope, kind: QuotaKind.API_KEYS, limit: 100n, etag });
		},
		GrantEntitlement: async () => () =>
			entitlements().grantEntitlement({ parent: scope, subject: 'gpu-model/NVIDIA H100 80GB HBM3' }),
		EndEntitlement: async () => {
			const { entitlement } = await entitlements().grantEntitlement({ parent: scope, subject: 'feature/host-mode' });
			return () => entitlements().endEntitlement({ name: entitlement?.name ?? '', etag: entitlement?.etag ?? '' });
		},
		SetFeature: async () => () => features().setFeature({ feature, scope, percentage: 100 }),
		UnsetFeature: async () => {
			const { rule } = await features().setFeature({ feature, scope: 'platform', percentage: 10 });
			return () => features().unsetFeature({ feature, scope: 'platform', etag: rule?.etag ?? '' });
		},
	};
}
