import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { QuotaService, SetQuotaResponseSchema } from '../../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import type { QuotaKind, QuotaRow } from '../../store/port/quotas.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { mayAt } from '../iam/grants.ts';
import { mutation } from '../use-case.ts';
import { lockChain } from './chain.ts';
import { QUOTA_NOUNS, QUOTA_WORDS } from './exceeded.ts';
import { limitedScope } from './limited-scope.ts';
import { quotaMessage, rowKindOf } from './view.ts';

/** Throws PERMISSION_DENIED. */
const RULES_ABOVE: Gate<'scope'> = {
	gate: 'above',
	*check(tx, { target, policy, granter, nowMs }) {
		const { name, parent } = limitedScope(policy, target);
		const by = yield* granter(tx);
		const place = present(yield* by.view.place(tx, parent ?? ''), 'a scope stands in another');
		if (!mayAt(by, 'quotas.set', place, nowMs)) throw givenAbove(name, parent ?? '');
		return 'they may set limits where it stands';
	},
};

/**
 * A limit is given from above: that of an organization by the platform, that of a department or project by whoever may
 * set limits where it stands, so that nobody raises their own. It can't promise more than the limits above it; where one
 * of those is lowered later, the lower one counts. May be below what is used: that stays, and nothing is added.
 */
export const setQuota = mutation('scope', QuotaService.method.setQuota, {
	prepare: () => undefined,
	gates: [RULES_ABOVE],
	*apply(tx, call, target) {
		const { request, nowMs, ctx, policy } = call;
		const scope = limitedScope(policy, target);
		const kind = rowKindOf(request.kind);
		if (kind === undefined) throw unknownKind();
		const [own, ...above] = yield* lockChain(tx, scope.organization, scope.name, kind);
		const before = present(own, 'the chain begins with the scope');
		assertEtag(request.etag, before, 'limit');
		const limitMax = request.limit === undefined ? null : Number(request.limit);
		assertBelow(limitMax, above, kind);
		const row = yield* tx.quotas.setLimit(scope.name, kind, { limitMax, changedAtMs: nowMs, changedBy: ctx.actor.id });
		const response = create(SetQuotaResponseSchema, { quota: quotaMessage(row, above) });
		const detail = { kind: QUOTA_WORDS[kind], from: shown(before.limitMax), to: shown(limitMax), used: row.used };
		return changed(response, 'quotas.set', `${scope.name}/quotas/${QUOTA_WORDS[kind]}`, scope.organization, detail);
	},
});

function givenAbove(scope: string, parent: string): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'PERMISSION_DENIED',
		message: `the limits of ${scope} are given by whoever holds quotas.set in ${parent}, in which it stands; nothing was changed. Ask them`,
		metadata: { permission: 'quotas.set', scope: parent },
	});
}

function assertBelow(limitMax: number | null, above: readonly QuotaRow[], kind: QuotaKind): void {
	if (limitMax === null) return;
	const smaller = above.find((row) => row.limitMax !== null && row.limitMax < limitMax);
	if (smaller === undefined) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'QUOTA_LIMIT_INVALID',
		message: `${smaller.scope} may have ${smaller.limitMax} ${QUOTA_NOUNS[kind]}, so no more can be promised below it; nothing was changed. Choose ${smaller.limitMax} at most, or have that limit raised first`,
		metadata: { scope: smaller.scope, limit: String(smaller.limitMax) },
	});
}

function shown(limitMax: number | null): string {
	return limitMax === null ? 'none' : String(limitMax);
}

function unknownKind(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: 'this version counts no such kind; nothing was changed. See the kinds with: gpuaas quota show SCOPE',
	});
}
