import { create } from '@bufbuild/protobuf';
import {
	GetQuotaResponseSchema,
	ListQuotaUsageRequestSchema,
	ListQuotaUsageResponseSchema,
	QuotaService,
} from '../../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { QUOTA_KINDS } from '../../store/port/quotas.ts';
import { granterOf } from '../iam/grants.ts';
import { permissionBit } from '../iam/permissions.ts';
import { isGuarded } from '../iam/place.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { chainOf } from './chain.ts';
import { limitedScope } from './limited-scope.ts';
import { quotaMessage, unsetRow } from './view.ts';

const GET = permissionBit('quotas.get');

export const getQuota = query('scope', QuotaService.method.getQuota, {
	*read(tx, { policy }, target) {
		const scope = limitedScope(policy, target);
		const chain = yield* chainOf(tx, scope.path);
		return { scope, rows: yield* tx.quotas.at(chain.map(({ name }) => name)) };
	},
	answer: (_call, { scope, rows }) =>
		create(GetQuotaResponseSchema, {
			quotas: QUOTA_KINDS.map((kind) => {
				const own = rows.find((row) => row.kind === kind && row.scope === scope.name);
				const above = rows.filter((row) => row.kind === kind && row.scope !== scope.name);
				return quotaMessage(own ?? unsetRow(scope.name, scope.organization, kind), above);
			}),
		}),
});

/** By scope; a page holds all kinds of each of its scopes. */
export const listQuotaUsage = query('scope', QuotaService.method.listQuotaUsage, {
	*read(tx, call, target) {
		const page = pageOf(call, ListQuotaUsageRequestSchema);
		const { path } = limitedScope(call.policy, target);
		// What a guardrail further down forbids to look at is in no list either.
		const { view, actor } = yield* granterOf(tx, call);
		const denials = isGuarded(actor.kind) ? yield* view.denials(tx, actor.kind, GET) : [];
		return { rows: yield* tx.quotas.listIn(path, denials, page), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListQuotaUsageResponseSchema, {
			quotas: rows.map((row) => quotaMessage(row)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.scope, new Set(rows.map(({ scope }) => scope)).size),
		}),
});
