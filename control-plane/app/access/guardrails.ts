import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	AccessService,
	CreateGuardrailResponseSchema,
	DeleteGuardrailResponseSchema,
	type Guardrail,
	GuardrailSchema,
	ListGuardrailsRequestSchema,
	ListGuardrailsResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { GuardrailRow } from '../../store/port/access.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import { asPlatform } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertEtag, etagOf } from '../iam/etag.ts';
import { notFound } from '../iam/not-found.ts';
import { holds, matching, permissionBit } from '../iam/permissions.ts';
import { GUARDRAILS_MAX } from '../iam/policy-view.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { assertHome } from '../principals/named.ts';
import { mutation, query } from '../use-case.ts';

/** What must stay possible, so that a guardrail can be seen and taken away again. */
const NEVER_FORBIDDEN = ['guardrails.get', 'guardrails.manage', 'scopes.get', 'access.explain'] as const;
const KINDS = ['user', 'service_account', 'operator'] as const;
/** They are few by their nature, and every decision reads them all: so no tenant takes the room of the others. */
export const GUARDRAILS_PER_ORGANIZATION_MAX = 50;
/** Of the installation's, that tenants leave free: the platform can always forbid something. */
const PLATFORM_RESERVE = 100;

export const listGuardrails = query('scope', AccessService.method.listGuardrails, {
	*read(tx, call, target) {
		const page = pageOf(call, ListGuardrailsRequestSchema);
		return { rows: yield* tx.access.listGuardrails({ ...page, scopes: [assertHome(call.policy, target).name] }), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListGuardrailsResponseSchema, {
			guardrails: rows.map(guardrailMessage),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

/** Throws TOO_MANY_GUARDRAILS. */
const ROOM: Gate<'scope'> = {
	gate: 'room',
	*check(tx, { target, policy }) {
		assertRoom(assertHome(policy, target), yield* asPlatform(tx.access.allGuardrails(GUARDRAILS_MAX)));
		return 'there is room for one more';
	},
};

export const createGuardrail = mutation('scope', AccessService.method.createGuardrail, {
	gates: [ROOM],
	prepare({ deps, nowMs, request }) {
		assertForbiddable(request.permissions);
		return uuidv7(nowMs, deps.rng);
	},
	*apply(tx, { request, nowMs, ctx, policy }, target, id) {
		const scope = assertHome(policy, target);
		const row: GuardrailRow = {
			id,
			scope: scope.name,
			permissions: [...request.permissions],
			principalKinds: KINDS.filter((kind) => request.principalKinds.includes(kind)),
			reason: request.reason,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			version: 1,
		};
		yield* tx.access.insertGuardrail(row);
		const message = guardrailMessage(row);
		const response = create(CreateGuardrailResponseSchema, { guardrail: message });
		return changed(response, 'guardrails.create', message.name, scope.organization);
	},
});

export const deleteGuardrail = mutation('scope', AccessService.method.deleteGuardrail, {
	prepare: () => undefined,
	*apply(tx, { request, policy }, { scope, collection, id }) {
		const row = collection === 'guardrails' ? yield* tx.access.getGuardrail(id) : undefined;
		if (row === undefined || row.scope !== scope.name) throw notFound(policy);
		assertEtag(request.etag, row, 'guardrail');
		yield* tx.access.deleteGuardrail(id, row.version);
		const { name } = guardrailMessage(row);
		return changed(create(DeleteGuardrailResponseSchema), 'guardrails.delete', name, scope.organization);
	},
});

function guardrailMessage(row: GuardrailRow): Guardrail {
	return create(GuardrailSchema, {
		name: `${row.scope}/guardrails/${row.id}`,
		scope: row.scope,
		permissions: [...row.permissions],
		principalKinds: [...row.principalKinds],
		reason: row.reason,
		createdAt: timestampFromMs(row.createdAtMs),
		etag: etagOf(row),
	});
}

function assertRoom({ kind, organization }: ScopeRow, rows: readonly GuardrailRow[]): void {
	if (kind === 'platform') {
		if (rows.length >= GUARDRAILS_MAX) throw tooMany(`there are ${GUARDRAILS_MAX}, the limit of an installation`);
		return;
	}
	const root = `organizations/${organization}`;
	const own = rows.filter(({ scope }) => scope === root || scope.startsWith(`${root}/`)).length;
	if (own >= GUARDRAILS_PER_ORGANIZATION_MAX) throw tooMany(`${root} has ${own}, the limit of an organization`);
	if (rows.length >= GUARDRAILS_MAX - PLATFORM_RESERVE)
		throw tooMany(`there are ${rows.length}, and the rest is kept for the platform`);
}

function assertForbiddable(patterns: readonly string[]): void {
	const forbidden = matching(patterns);
	for (const pattern of patterns) if (matching([pattern]).every((word) => word === 0)) throw unknown(pattern);
	const locked = NEVER_FORBIDDEN.filter((name) => holds(forbidden, permissionBit(name)));
	if (locked.length === 0) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'GUARDRAIL_LOCKOUT',
		message: `a guardrail can't forbid ${locked.join(', ')}: nobody could see or remove it again; name the permissions one by one`,
	});
}

function unknown(pattern: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'PERMISSION_UNKNOWN',
		message: `${pattern} matches no permission, so it would forbid nothing; list the roles for the permissions that there are`,
	});
}

function tooMany(why: string): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_GUARDRAILS',
		message: `there is no room for another guardrail: ${why}; nothing was made. Delete some first; one can forbid several permissions`,
	});
}
