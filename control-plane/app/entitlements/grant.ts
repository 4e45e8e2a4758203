import { create } from '@bufbuild/protobuf';
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	EndEntitlementResponseSchema,
	EntitlementService,
	GrantEntitlementResponseSchema,
	ListEntitlementsRequestSchema,
	ListEntitlementsResponseSchema,
} from '../../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import type { EntitlementRow } from '../../store/port/entitlements.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { notFound } from '../iam/not-found.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { limitedScope } from '../quotas/limited-scope.ts';
import { mutation, query } from '../use-case.ts';
import { assertSubject } from './subjects.ts';
import { entitlementMessage, entitlementName } from './view.ts';

/** Of one scope, not ended: contracts have few lines. */
const OPEN_MAX = 1000;

export const listEntitlements = query('scope', EntitlementService.method.listEntitlements, {
	*read(tx, call, target) {
		const page = pageOf(call, ListEntitlementsRequestSchema);
		const scope = limitedScope(call.policy, target);
		return { rows: yield* tx.entitlements.list({ ...page, scopes: [scope.name] }), page };
	},
	answer: (call, { rows, page }) =>
		create(ListEntitlementsResponseSchema, {
			entitlements: rows.map((row) => entitlementMessage(row, call.nowMs)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

/** Throws TOO_MANY_ENTITLEMENTS. */
const ROOM: Gate<'scope'> = {
	gate: 'room',
	*check(tx, { target, policy, nowMs }) {
		if ((yield* tx.entitlements.countOpen(limitedScope(policy, target).name, nowMs)) >= OPEN_MAX) throw tooMany();
		return 'there is room for one more';
	},
};

export const grantEntitlement = mutation('scope', EntitlementService.method.grantEntitlement, {
	gates: [ROOM],
	prepare({ deps, nowMs, request }) {
		assertSubject(request.subject);
		return { id: uuidv7(nowMs, deps.rng), ...spanOf(request, nowMs) };
	},
	*apply(tx, { request, nowMs, ctx, policy }, target, { id, fromMs, untilMs }) {
		const scope = limitedScope(policy, target);
		const row: EntitlementRow = {
			id,
			scope: scope.name,
			organization: scope.organization,
			subject: request.subject,
			fromMs,
			untilMs,
			reason: request.reason,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			version: 1,
		};
		yield* tx.entitlements.insert(row);
		const response = create(GrantEntitlementResponseSchema, { entitlement: entitlementMessage(row, nowMs) });
		const detail = { subject: row.subject, from_ms: fromMs, ...(untilMs === null ? {} : { until_ms: untilMs }) };
		return changed(response, 'entitlements.grant', entitlementName(row), scope.organization, detail);
	},
});

export const endEntitlement = mutation('scope', EntitlementService.method.endEntitlement, {
	prepare: () => undefined,
	*apply(tx, { request, nowMs, policy }, { scope, collection, id }) {
		const row = collection === 'entitlements' ? yield* tx.entitlements.get(id) : undefined;
		if (row === undefined || row.scope !== scope.name) throw notFound(policy);
		assertEtag(request.etag, row, 'entitlement');
		const isOver = row.untilMs !== null && row.untilMs <= nowMs;
		const ended = isOver
			? row
			: present(yield* tx.entitlements.end(id, Math.max(nowMs, row.fromMs), row.version), 'the row is locked');
		const response = create(EndEntitlementResponseSchema, { entitlement: entitlementMessage(ended, nowMs) });
		const detail = { subject: row.subject };
		return changed(response, 'entitlements.end', entitlementName(row), scope.organization, detail);
	},
});

function spanOf(
	{ from, until }: { readonly from?: Timestamp | undefined; readonly until?: Timestamp | undefined },
	nowMs: number,
): { readonly fromMs: number; readonly untilMs: number | null } {
	const fromMs = from === undefined ? nowMs : msOf(from);
	const untilMs = until === undefined ? null : msOf(until);
	if (untilMs === null || (untilMs > fromMs && untilMs > nowMs)) return { fromMs, untilMs };
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'ENTITLEMENT_INVALID',
		message:
			'the entitlement would be over before it begins, or is over already; nothing was granted. Choose a later end',
	});
}

/** The end of what JSON writes a time for, the year 9999. */
const SECONDS_MAX = 253_402_300_799n;

function msOf(at: Timestamp): number {
	if (at.seconds >= 0n && at.seconds <= SECONDS_MAX && at.nanos >= 0 && at.nanos < 1e9)
		return Math.floor(timestampMs(at));
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'ENTITLEMENT_INVALID',
		message: 'the time is before 1970 or after the year 9999; nothing was granted. Leave it out for now, or for no end',
	});
}

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_ENTITLEMENTS',
		message: `a scope has at most ${OPEN_MAX} entitlements that haven't ended; end some first, nothing was granted`,
		metadata: { entitlements_max: String(OPEN_MAX) },
	});
}
