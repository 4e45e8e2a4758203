import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type FeatureRule, FeatureRuleSchema } from '../../../proto/gen/gpuaas/features/v1/features_pb.ts';
import type { FeatureRow } from '../../store/port/features.ts';
import { etagOf } from '../iam/etag.ts';

export function ruleMessage(row: FeatureRow): FeatureRule {
	return create(FeatureRuleSchema, {
		feature: row.name,
		scope: row.scope,
		percentage: row.percentage,
		reason: row.reason,
		changedAt: timestampFromMs(row.changedAtMs),
		etag: etagOf(row),
	});
}
