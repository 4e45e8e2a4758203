import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Entitlement, EntitlementSchema } from '../../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import type { EntitlementRow } from '../../store/port/entitlements.ts';
import { etagOf } from '../iam/etag.ts';

export function entitlementName({ scope, id }: EntitlementRow): string {
	return `${scope}/entitlements/${id}`;
}

export function entitlementMessage(row: EntitlementRow, nowMs: number): Entitlement {
	return create(EntitlementSchema, {
		name: entitlementName(row),
		scope: row.scope,
		subject: row.subject,
		from: timestampFromMs(row.fromMs),
		state: stateOf(row, nowMs),
		reason: row.reason,
		createdAt: timestampFromMs(row.createdAtMs),
		etag: etagOf(row),
		...(row.untilMs === null ? {} : { until: timestampFromMs(row.untilMs) }),
	});
}

function stateOf({ fromMs, untilMs }: EntitlementRow, nowMs: number): string {
	if (untilMs !== null && untilMs <= nowMs) return 'ended';
	return fromMs > nowMs ? 'scheduled' : 'in force';
}
