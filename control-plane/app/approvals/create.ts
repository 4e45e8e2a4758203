import { create, type Message } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { ApprovalService, CreateApprovalResponseSchema } from '../../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import type { ApprovalRow } from '../../store/port/approvals.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { type Granter, granterOf } from '../iam/grants.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { holds } from '../iam/permissions.ts';
import { authorizedTarget, placeAsked } from '../iam/target.ts';
import { mutation } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { approvalDigest, readableRequest } from './digest.ts';
import { approvableMethod, requestOf } from './method.ts';
import { approvalMessage } from './view.ts';

const TTL_DEFAULT_MS = 15 * 60_000;
/** Of one requester, undecided: more is a program that asks in a loop. */
const PENDING_MAX = 100;

/** Asks a second person for one call. Who asks must be allowed the call but for the step-up. */
export const createApproval = mutation('any', ApprovalService.method.createApproval, {
	*apply(tx, call) {
		const { deps, ctx, request, nowMs } = call;
		const { id: requesterId } = ctx.actor;
		const approvable = approvableMethod(deps, request.method);
		const asked = requestOf(approvable, request.requestJson);
		const { policy, method } = approvable;
		const granter = yield* granterOf(tx, call);
		yield* authorizedTarget(tx, granter.view, ctx, { ...policy, stepUp: false }, asked, nowMs);
		if ((yield* tx.approvals.countPending(requesterId, nowMs)) >= PENDING_MAX) throw tooMany();
		const expiresAtMs = nowMs + (msFromDuration(request.ttl) ?? TTL_DEFAULT_MS);
		const digest = approvalDigest({
			method: policy.name,
			input: method.input,
			request: asked,
			requesterId,
			expiresAtMs,
		});
		const row: ApprovalRow = {
			id: uuidv7(nowMs, deps.rng),
			requesterId,
			scope: yield* scopeOf(tx, granter, policy, asked),
			method: policy.name,
			digestSha256: digest,
			summary: readableRequest(method.input, asked),
			reason: request.reason,
			state: 'pending',
			createdAtMs: nowMs,
			expiresAtMs,
			decidedBy: null,
			decidedAtMs: null,
			decisionReason: '',
			consumedAtMs: null,
			version: 1,
		};
		yield* tx.approvals.insert(row);
		return {
			response: create(CreateApprovalResponseSchema, { approval: approvalMessage(row, nowMs) }),
			audit: {
				action: 'approvals.create',
				target: `approvals/${row.id}`,
				result: 'ok',
				reason: '',
				detail: { method: row.method, digest: Buffer.from(digest).toString('hex'), expires_at_ms: expiresAtMs },
			},
		};
	},
});

/** Who may decide is a matter of the place of the thing, or of the home of who asks about themselves. */
function* scopeOf(tx: Tx, { view, actor }: Granter, policy: CheckedPolicy, asked: Message): Plan<string> {
	const bit = policy.permissionBit;
	// By a role of the platform: then it is the platform's affair, whoever's thing it is about.
	if (bit !== undefined && holds(actor.access.platform, bit)) return 'platform';
	if (policy.target === 'self') return (yield* tx.identities.getPrincipal(actor.id))?.home ?? 'platform';
	return (yield* placeAsked(tx, view, actor, policy, asked))?.name ?? 'platform';
}

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `you have ${PENDING_MAX} requests that nobody has decided; nothing was done. Wait until they are decided or expire`,
		metadata: { 'retry-after': '60' },
	});
}
