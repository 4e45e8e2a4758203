import type { Message } from '@bufbuild/protobuf';
import type { GpuaasError } from '../../kit/error.ts';
import { AuditClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { CheckedPolicy } from './iam/method-policy.ts';
import type { CallContext } from './iam/principal.ts';
import { targetName } from './iam/target.ts';
import { recordedFor } from './iam/tenancy.ts';
import { recordsSuccess, type UseCaseDeps } from './use-case.ts';

/** Records a refused or failed call where its policy wants that. `request` is undefined before it was read. */
export async function recordRefusal(
	deps: UseCaseDeps,
	ctx: CallContext,
	policy: CheckedPolicy,
	request: Message | undefined,
	error: GpuaasError,
): Promise<void> {
	const denied = DENIALS.has(error.code);
	const failed = recordsSuccess(policy) && (FAILURES.has(error.code) || DECEIVING.has(error.reason));
	if (policy.audit === AuditClass.NONE || !(denied || failed)) return;
	// Reads by nobody in particular are noise of the network, not a decision about a person; a token that was made to
	// deceive is not noise.
	if (error.code === 'UNAUTHENTICATED' && !recordsSuccess(policy) && !TELLING.has(error.reason)) return;
	const action = policy.permission === '' ? policy.name : policy.permission;
	const target = request === undefined ? '' : targetName(policy, request);
	await deps.refusals.record(ctx, { action, target, organizations: recordedFor(ctx, policy, request) }, error);
}

const TELLING: ReadonlySet<string> = new Set([
	'ACCESS_TOKEN_MALFORMED',
	'ACCESS_TOKEN_TOO_LARGE',
	'ACCESS_TOKEN_ALGORITHM',
	'ACCESS_TOKEN_SIGNATURE',
	'ACCESS_TOKEN_ISSUER',
	'ACCESS_TOKEN_AUDIENCE',
	'ACCESS_TOKEN_CLIENT',
	'ACCESS_TOKEN_TYPE',
	'ACCESS_TOKEN_TIME',
	'ACCESS_TOKEN_CLAIMS',
	'EDGE_ASSERTION_INVALID',
	'EDGE_ASSERTION_MISMATCH',
	'USER_NOT_INVITED',
	'USER_DISABLED',
	'LOGGED_OUT',
]);

/** Bad input that was made to be taken for something else; other bad input is everybody's mistake and leaves no record. */
const DECEIVING: ReadonlySet<string> = new Set(['NAME_CONFUSABLE']);

const DENIALS: ReadonlySet<string> = new Set(['UNAUTHENTICATED', 'PERMISSION_DENIED', 'NOT_FOUND']);
const FAILURES: ReadonlySet<string> = new Set([
	'FAILED_PRECONDITION',
	'ABORTED',
	'ALREADY_EXISTS',
	'RESOURCE_EXHAUSTED',
]);
