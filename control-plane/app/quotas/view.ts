import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Quota, QuotaKind, QuotaSchema } from '../../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { QUOTA_KINDS, type QuotaRow, type QuotaKind as RowKind } from '../../store/port/quotas.ts';
import { etagOf } from '../iam/etag.ts';

const KIND: Readonly<Record<RowKind, QuotaKind>> = {
	nodes: QuotaKind.NODES,
	gpus: QuotaKind.GPUS,
	terminals: QuotaKind.TERMINALS,
	tasks: QuotaKind.TASKS,
	api_keys: QuotaKind.API_KEYS,
};

/** Undefined for a number that this version doesn't know. */
export function rowKindOf(kind: QuotaKind): RowKind | undefined {
	return QUOTA_KINDS.find((row) => KIND[row] === kind);
}

/** The row as it is before anything was counted or limited. */
export function unsetRow(scope: string, organization: string, kind: RowKind): QuotaRow {
	const nothing = { limitMax: null, used: 0, reserved: 0, changedAtMs: null, changedBy: null };
	return { scope, kind, organization, ...nothing, version: 1 };
}

/** `above`: rows of the same kind further up, which count too. */
export function quotaMessage(row: QuotaRow, above: readonly QuotaRow[] = []): Quota {
	const limited = [row, ...above].flatMap(({ limitMax, used, reserved }) =>
		limitMax === null ? [] : [{ limitMax, left: Math.max(0, limitMax - used - reserved) }],
	);
	return create(QuotaSchema, {
		scope: row.scope,
		kind: KIND[row.kind],
		used: BigInt(row.used),
		reserved: BigInt(row.reserved),
		etag: etagOf(row),
		...(row.limitMax === null ? {} : { limit: BigInt(row.limitMax) }),
		...(row.changedAtMs === null ? {} : { limitSetAt: timestampFromMs(row.changedAtMs) }),
		...(limited.length === 0
			? {}
			: {
					effectiveLimit: BigInt(Math.min(...limited.map(({ limitMax }) => limitMax))),
					available: BigInt(Math.min(...limited.map(({ left }) => left))),
				}),
	});
}
