import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { AcceptInvitationResponseSchema, LoginService } from '../../../proto/gen/gpuaas/login/v1/login_pb.ts';
import type { InvitationRow } from '../../store/port/invitations.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { BINDINGS_PER_PRINCIPAL_MAX } from '../access/create-binding.ts';
import { assertGrantable } from '../access/grantable.ts';
import { SUPPORT_ROLE } from '../access/support-consent.ts';
import { mayAt } from '../iam/grants.ts';
import { loadActor, NO_LIMITS, unusablePrincipal } from '../iam/principal.ts';
import { invitationHash } from '../principals/invite.ts';
import { type Call, mutation } from '../use-case.ts';
import { retireBootstrap } from './retire-bootstrap.ts';
import { createUser, findUser } from './user.ts';

/**
 * Lets the bearer of an invitation in: once, before its end, only the person whose verified address it was made for, and
 * only while whoever made it could still give that role: it is judged again now. Makes the user if there is none yet,
 * the membership and the binding, all in one unit.
 */
export const acceptInvitation = mutation('platform', LoginService.method.acceptInvitation, {
	prepare({ ctx, request }) {
		const { login } = ctx.actor;
		if (login === undefined) {
			throw new GpuaasError({
				code: 'UNAUTHENTICATED',
				reason: 'UNAUTHENTICATED',
				message: 'an invitation is accepted by a person who is logged in at the provider; log in first: gpuaas login',
			});
		}
		return { login, tokenSha256: invitationHash(request.invitationToken) };
	},
	*apply(tx, call, _target, { login, tokenSha256 }) {
		const { deps, ctx, nowMs } = call;
		// Two at once could each see an organization without an owner.
		yield* tx.access.lockPolicy();
		const invitation = yield* tx.invitations.getByToken(tokenSha256);
		const isOpen =
			invitation?.acceptedAtMs === null && invitation.revokedAtMs === null && nowMs < invitation.expiresAtMs;
		if (invitation === undefined || !isOpen) throw invalid('it is unknown, was used or withdrawn, or has expired');
		if (!login.emailVerified || login.email !== invitation.email)
			throw invalid('it was made for another address, or the provider has not verified yours');
		const scope = yield* tx.scopes.get(invitation.scope);
		if (scope?.state !== 'active') throw invalid('what it invites to is suspended or gone');
		yield* assertStillGiven(tx, call, invitation, scope);
		const { principal } = (yield* findUser(tx, login)) ?? (yield* createUser(tx, login, nowMs, deps.rng));
		if (principal.disabledAtMs !== null || principal.deletedAtMs !== null) throw invalid('your account is disabled');
		const { organization, role, createdBy } = invitation;
		if ((yield* tx.access.findBinding(principal.id, role, scope.name)) !== undefined)
			throw invalid('you have that role there already');
		if ((yield* tx.access.countBindings(principal.id)) >= BINDINGS_PER_PRINCIPAL_MAX)
			throw invalid(`you hold ${BINDINGS_PER_PRINCIPAL_MAX} roles already, which is the most that one person can`);
		yield* tx.invitations.accept(invitation.id, principal.id, nowMs);
		if (organization !== '' && (yield* tx.identities.getMember(organization, principal.id)) === undefined)
			yield* tx.identities.insertMember({
				organization,
				principalId: principal.id,
				joinedAtMs: nowMs,
				addedBy: createdBy,
			});
		yield* tx.access.insertBinding({
			id: uuidv7(nowMs, deps.rng),
			principalId: principal.id,
			role,
			scope: invitation.scope,
			permissions: [],
			reason: `invitation ${invitation.id}`,
			createdAtMs: nowMs,
			createdBy,
			expiresAtMs: null,
			version: 1,
		});
		yield* retireBootstrap(tx, ctx, deps, principal.id, nowMs);
		return {
			response: create(AcceptInvitationResponseSchema, { principalId: principal.id, role, scope: invitation.scope }),
			audit: {
				action: 'invitations.accept',
				target: `invitations/${invitation.id}`,
				organization,
				result: 'ok',
				reason: '',
				detail: { principal: principal.id, role, scope: invitation.scope, issuer: login.issuer },
				personal: { email: login.email },
			},
		};
	},
});

/** As when it was made, by who its maker is and what they hold now; before the unit writes anything. */
function* assertStillGiven(
	tx: Tx,
	{ deps, nowMs }: Call<unknown>,
	{ createdBy, role }: InvitationRow,
	scope: ScopeRow,
): Plan<void> {
	const gone = () => invalid('whoever made it may no longer give that role');
	const view = yield* deps.policies.inUnit(tx);
	const maker = yield* tx.identities.getPrincipal(createdBy);
	const place = yield* view.place(tx, scope.name);
	if (maker === undefined || maker.kind === 'group' || place === undefined || role === SUPPORT_ROLE) throw gone();
	if ((yield* unusablePrincipal(tx, view, maker)) !== undefined) throw gone();
	const verified = { kind: 'none', id: '', expiresAtMs: null, limits: NO_LIMITS } as const;
	const granter = { view, actor: yield* loadActor(tx, view, maker, verified, nowMs) };
	if (!mayAt(granter, 'invitations.manage', place, nowMs)) throw gone();
	try {
		yield* assertGrantable(tx, granter, { scope, place, role, permissions: [] });
	} catch (error) {
		if (error instanceof GpuaasError && LOST.has(error.reason)) throw gone();
		throw error;
	}
}

const LOST: ReadonlySet<string> = new Set(['GRANT_EXCEEDS_OWN', 'ROLE_UNKNOWN']);

function invalid(why: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'INVITATION_INVALID',
		message: `this invitation can't be accepted: ${why}; nothing was changed. Ask whoever invited you for a new one`,
	});
}
