import { ROLES } from '../../control-plane/app/iam/roles.ts';
import { addRecording } from '../integration/recordings-world.ts';
import { type CaseResult, callRpc, type Run, reasonOf, THEIRS } from './calls.ts';
import { type Request, type Rpc, requestOf, wholeList } from './cases.ts';
import { addSample, type Sample } from './sample.ts';

/**
 * The positive control: the owner's own call, of the very request that the stranger made, does what it asks for. Without it
 * a negative proves nothing: a sample that isn't there is hidden from everybody, and a request that is wrong by itself is
 * refused to everybody. What can't succeed here says by which reason it ends, past every look at whose the thing is.
 */
export async function ownersAnswer(run: Run, { method, policy }: Rpc): Promise<CaseResult> {
	const result = { rpc: policy.name, case: 'positive' } as const;
	const { world, owner } = run;
	const sample = await addSample(world, THEIRS, owner.principalId);
	const isTenants = policy.permission === '' || ROLES['tenant.owner']?.permissions.has(policy.permission) === true;
	// Tenants have no operations, tokens, certificates and users: their owner is the platform.
	const isPlatforms = policy.target === 'platform' || policy.target === 'operation' || !isTenants;
	const caller = isPlatforms && policy.target !== 'node' ? { ...owner, key: world.operatorKey } : owner;
	const isList = policy.target === 'any' && /^List/.test(method.name);
	const usual = isList ? wholeList(method) : requestOf(method, sample);
	const request = { ...usual, ...(await SUCCEEDING[method.name]?.(run, sample)) };
	const answer = await callRpc(run, method, caller, request);
	const seen = reasonOf(answer);
	if (isList && isTenants) {
		const wanted = LISTED[method.name]?.(sample) ?? '';
		const isThere = wanted !== '' && answer.body.toString('latin1').includes(wanted);
		return { ...result, outcome: isThere ? 'pass' : 'fail', detail: isThere ? 'listed' : `not listed: ${seen}` };
	}
	const isFound = isPlatforms ? isLetThrough(run, policy.target, seen) : seen === (ENDS[method.name] ?? 'OK');
	return { ...result, outcome: isFound ? 'pass' : 'fail', detail: seen };
}

/**
 * The platform's deeds: on a node that its holder sees, the holder is denied and so knows that it is there; on things of
 * the platform, which are in no sample, the platform's people are let through. Without the application's filter nobody is
 * denied, and the database does it.
 */
function isLetThrough({ mode }: Run, target: string, seen: string): boolean {
	if (target === 'node' && mode.applicationFilter) return seen === 'PERMISSION_DENIED';
	return target === 'node'
		? !/_NOT_FOUND$|^HTTP 5/.test(seen)
		: !/^(PERMISSION_DENIED|UNAUTHENTICATED|HTTP 5.*)$/.test(seen);
}

/** What a request needs so that it does something, beyond what the sample requests have. */
export const SUCCEEDING: Readonly<Record<string, (run: Run, sample: Sample) => Request | Promise<Request>>> = {
	CancelTask: (_run, { queuedTaskId }) => ({ taskId: queuedTaskId }),
	CreateBinding: () => ({ role: 'tenant.billing' }),
	CreateInvitation: () => ({ role: 'tenant.viewer' }),
	CreateRole: () => ({ parent: `organizations/${THEIRS}` }),
	CreateScope: () => ({ parent: `organizations/${THEIRS}`, ownerId: '' }),
	CreateTask: () => ({ batchId: 'mine' }),
	GetRecording: async ({ world }, { node }) => ({ recordingId: await addRecording(world, node) }),
	KillTerminal: (_run, { openTerminalId }) => ({ terminalId: openTerminalId }),
	QueryTelemetryHistory: ({ world }) => ({ from: new Date(world.deps.clock.now() - 60_000).toISOString() }),
	ReadRecording: async ({ world }, { node }) => ({ recordingId: await addRecording(world, node) }),
	RevokeMyKey: (_run, { ownKeyId }) => ({ keyId: ownKeyId }),
	RotateMyKey: (_run, { ownKeyId }) => ({ keyId: ownKeyId }),
	ShareTerminal: ({ owner }, { openTerminalId }) => ({ terminalId: openTerminalId, principalId: owner.principalId }),
};

/** By what the owner's own call ends where it can't succeed: each comes after the object was found and allowed. */
const ENDS: Readonly<Record<string, string>> = {
	ApproveApproval: 'APPROVER_NOT_ALLOWED',
	RejectApproval: 'APPROVER_NOT_ALLOWED',
	ResumeScope: 'SCOPE_STATE_INVALID',
	DeleteScope: 'SCOPE_IN_USE',
};

/** What the list of each kind shows of the sample. */
const LISTED: Readonly<Record<string, (sample: Sample) => string>> = {
	ListApprovals: ({ approvalId }) => approvalId,
	ListScopes: ({ iam }) => iam.scope,
	ListNodes: ({ node }) => node,
	ListNodeHealth: ({ node }) => node,
	ListNodeTelemetry: ({ node }) => node,
	ListTasks: ({ taskId }) => taskId,
	ListTerminals: ({ terminalId }) => terminalId,
	ListRecordings: ({ recordingId }) => recordingId,
	ListAuditRecords: () => `"organization":"${THEIRS}"`,
};
