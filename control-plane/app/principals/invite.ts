import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	CreateInvitationResponseSchema,
	ListInvitationsRequestSchema,
	ListInvitationsResponseSchema,
	PrincipalService,
	RevokeInvitationResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { InvitationRow } from '../../store/port/invitations.ts';
import { assertGrantable } from '../access/grantable.ts';
import { assertNotSupport } from '../access/support-consent.ts';
import { assertMayLast } from '../break-glass/lasting.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { granterOf } from '../iam/grants.ts';
import { notFound } from '../iam/not-found.ts';
import { assertRoomFor } from '../iam/room.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { mutation, query } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { assertHome } from './named.ts';
import { invitationMessage } from './view.ts';

const TTL_DEFAULT_MS = 7 * 24 * 3_600_000;
const TOKEN_BYTES = 32;

/** Only its hash is kept: who reads the database can't use it. */
export function invitationHash(token: string): Uint8Array {
	return createHash('sha256').update(token).digest();
}

/** Throws SCOPE_KIND_INVALID. */
const OF_TENANT: Gate<'scope'> = {
	gate: 'kind',
	check(_tx, { target, policy }) {
		if (assertHome(policy, target).kind === 'platform') throw tenantsOnly();
		return 'people are invited there';
	},
};

/** Throws TOO_MANY_INVITATIONS. */
const ROOM: Gate<'scope'> = {
	gate: 'room',
	*check(tx, { target, policy, nowMs }) {
		const { organization } = assertHome(policy, target);
		return assertRoomFor('invitation', yield* tx.invitations.countOpen(organization, nowMs));
	},
};

/** An invitation gives a role to whoever shows its token and a verified e-mail address that matches. */
export const createInvitation = mutation('scope', PrincipalService.method.createInvitation, {
	gates: [OF_TENANT, ROOM],
	prepare({ deps, ctx, nowMs }) {
		assertMayLast(ctx.actor, 'an invitation');
		const token = `gpu_inv_${Buffer.from(deps.rng.bytes(TOKEN_BYTES)).toString('base64url')}`;
		return { id: uuidv7(nowMs, deps.rng), token };
	},
	*apply(tx, call, target, { id, token }) {
		const { request, nowMs, ctx, policy } = call;
		const scope = assertHome(policy, target);
		assertNotSupport(request.role);
		const granter = yield* granterOf(tx, call);
		yield* assertGrantable(tx, granter, { scope, place: target.place, role: request.role, permissions: [] });
		const row: InvitationRow = {
			id,
			organization: scope.organization,
			email: request.email.toLowerCase(),
			tokenSha256: invitationHash(token),
			role: request.role,
			scope: scope.name,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			expiresAtMs: nowMs + (msFromDuration(request.ttl) ?? TTL_DEFAULT_MS),
			acceptedAtMs: null,
			acceptedBy: null,
			revokedAtMs: null,
			version: 1,
		};
		yield* tx.invitations.insert(row);
		const message = invitationMessage(row, nowMs);
		const response = create(CreateInvitationResponseSchema, { invitation: message, invitationToken: token });
		return changed(response, 'invitations.create', message.name, row.organization, { expires_at_ms: row.expiresAtMs });
	},
});

export const listInvitations = query('scope', PrincipalService.method.listInvitations, {
	*read(tx, call, target) {
		const page = pageOf(call, ListInvitationsRequestSchema);
		const { organization } = assertHome(call.policy, target);
		return { rows: yield* tx.invitations.list({ ...page, organization }), page, at: target.scope };
	},
	answer: (call, { rows, page, at }) =>
		create(ListInvitationsResponseSchema, {
			// Those at exactly this scope: what it takes to see one is a permission there.
			invitations: rows.filter(({ scope }) => scope === at.name).map((row) => invitationMessage(row, call.nowMs)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

/** Throws INVITATION_CLOSED. */
const STILL_OPEN: Gate<'scope'> = {
	gate: 'state',
	*check(tx, { target: { scope, collection, id }, policy }) {
		const row = collection === 'invitations' ? yield* tx.invitations.get(id) : undefined;
		if (row === undefined || row.scope !== scope.name) throw notFound(policy);
		if (row.acceptedAtMs !== null || row.revokedAtMs !== null) throw closed();
		return 'nobody has accepted or revoked it';
	},
};

export const revokeInvitation = mutation('scope', PrincipalService.method.revokeInvitation, {
	prepare: () => undefined,
	gates: [STILL_OPEN],
	*apply(tx, { nowMs }, { scope, id }) {
		const revoked = present(yield* tx.invitations.revoke(id, nowMs), 'the row is locked, and was open');
		const message = invitationMessage(revoked, nowMs);
		const response = create(RevokeInvitationResponseSchema, { invitation: message });
		return changed(response, 'invitations.revoke', message.name, scope.organization);
	},
});

function closed(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'INVITATION_CLOSED',
		message: 'the invitation was accepted or revoked before; to take away what it gave, delete the binding',
	});
}

function tenantsOnly(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_KIND_INVALID',
		message: 'people are invited into organizations; on the platform, bind a role to a user who has logged in',
	});
}
