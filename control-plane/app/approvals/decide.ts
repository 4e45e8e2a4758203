import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import {
	ApprovalService,
	ApproveApprovalResponseSchema,
	RejectApprovalResponseSchema,
} from '../../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import type { ApprovalRow } from '../../store/port/approvals.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AuditEvent } from '../audit/event.ts';
import { assertMayLast } from '../break-glass/lasting.ts';
import { type Granter, granterOf, mayAt } from '../iam/grants.ts';
import { authorizedTarget } from '../iam/target.ts';
import { type Call, mutation } from '../use-case.ts';
import { approvableMethod, requestOf } from './method.ts';
import { approvalMessage } from './view.ts';

type Decision = Call<{ readonly approvalId: string; readonly reason: string }>;

/** The second person's yes: a person, stepped up, who could make this very call, and is not who asks in disguise. */
export const approveApproval = mutation('any', ApprovalService.method.approveApproval, {
	*apply(tx, call) {
		const { row, audit } = yield* decide(tx, call, 'approved');
		const approval = approvalMessage(row, call.nowMs);
		return { response: create(ApproveApprovalResponseSchema, { approval }), audit };
	},
});

export const rejectApproval = mutation('any', ApprovalService.method.rejectApproval, {
	*apply(tx, call) {
		const { row, audit } = yield* decide(tx, call, 'rejected');
		const approval = approvalMessage(row, call.nowMs);
		return { response: create(RejectApprovalResponseSchema, { approval }), audit };
	},
});

function* decide(
	tx: Tx,
	call: Decision,
	state: 'approved' | 'rejected',
): Plan<{ readonly row: ApprovalRow; readonly audit: AuditEvent }> {
	const { ctx, request, nowMs } = call;
	if (state === 'approved') assertMayLast(ctx.actor, 'what is approved');
	const asked = yield* tx.approvals.get(request.approvalId);
	const granter = yield* granterOf(tx, call);
	if (asked === undefined || !(yield* isSeen(tx, granter, asked, nowMs))) throw notFound();
	yield* assertMayDecide(tx, call, granter, asked, state === 'approved');
	if (nowMs >= asked.expiresAtMs) throw decidedAlready('it has expired');
	const to = { state, decidedBy: ctx.actor.id, decidedAtMs: nowMs, decisionReason: request.reason } as const;
	const row = yield* tx.approvals.decide(asked.id, to);
	if (row === undefined) throw decidedAlready(`it is ${asked.state} already`);
	return {
		row,
		audit: {
			action: `approvals.${state === 'approved' ? 'approve' : 'reject'}`,
			target: `approvals/${row.id}`,
			result: 'ok',
			reason: '',
			detail: {
				method: row.method,
				requester: row.requesterId,
				digest: Buffer.from(row.digestSha256).toString('hex'),
				acr: ctx.actor.assurance?.acr ?? '',
				auth_time_ms: ctx.actor.assurance?.authTimeMs ?? 0,
			},
		},
	};
}

/** One's own, and those about things at places where one decides; another's reads as none. */
function* isSeen(tx: Tx, granter: Granter, { requesterId, scope }: ApprovalRow, nowMs: number): Plan<boolean> {
	if (requesterId === granter.actor.id) return true;
	const { view } = granter;
	const place = (yield* view.place(tx, scope)) ?? (yield* view.place(tx, 'platform'));
	return place !== undefined && mayAt(granter, 'approvals.decide', place, nowMs);
}

function* assertMayDecide(
	tx: Tx,
	{ deps, ctx, nowMs }: Decision,
	{ view }: Granter,
	asked: ApprovalRow,
	isYes: boolean,
): Plan<void> {
	const { actor } = ctx;
	if (actor.kind !== 'user') throw notAllowed('only a person can decide');
	if (actor.id === asked.requesterId) throw notAllowed('nobody decides about their own request');
	const requester = yield* tx.identities.getPrincipal(asked.requesterId);
	if (requester?.ownerId === actor.id) throw notAllowed('you answer for the service account that asks');
	const approvable = approvableMethod(deps, asked.method);
	const policy = isYes ? approvable.policy : { ...approvable.policy, stepUp: false };
	yield* authorizedTarget(tx, view, ctx, policy, requestOf(approvable, asked.summary), nowMs);
}

function notFound(): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'NOT_FOUND',
		message: 'there is no such approval; list approvals to see their ids',
	});
}

function notAllowed(why: string): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'APPROVER_NOT_ALLOWED',
		message: `${why}; nothing was decided. Ask another person who may make this call`,
	});
}

function decidedAlready(why: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'APPROVAL_INVALID',
		message: `this approval can't be decided: ${why}; nothing was changed`,
	});
}
