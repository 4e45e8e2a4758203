import type { DescMethod } from '@bufbuild/protobuf';
import { RotationStep } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { AssignmentMode } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { HealthClearing } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { AttachMode } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';

import { iamRequest } from './iam-requests.ts';
import { type IamSample, sampleName } from './iam-sample.ts';

/** The objects that a generated request may name. */
export interface SampleIds {
	readonly node: string;
	readonly taskId: string;
	readonly operationId: string;
	readonly recordingId: string;
	readonly terminalId: string;
	readonly tokenId: string;
	readonly serial: string;
	readonly etag: string;
	readonly iam: IamSample;
	readonly approvalId?: string;
}

/**
 * A request of each method that the contract lets through, as JSON. A method that is not here gets `{}` and the ids of
 * its fields: so a new method is in the matrix from its first day.
 */
export function sampleRequest(method: DescMethod, ids: SampleIds): Record<string, unknown> {
	const iam = iamRequest(method, ids.iam);
	if (iam !== undefined) return iam;
	const request: Record<string, unknown> = {};
	const named: Readonly<Record<string, unknown>> = { ...ids };
	for (const { localName } of method.input.fields) {
		const id = localName === 'etag' || localName === 'node' || localName.endsWith('Id') ? named[localName] : undefined;
		if (typeof id === 'string' && id !== '') request[localName] = id;
	}
	return { ...request, ...REST[method.name]?.(ids) };
}

/**
 * Methods that a key is no proof for: a login at a provider, a person's decision, the signatures of break-glass keys.
 * Whoever comes with a key gets one of these reasons; login-suite.ts, approvals.test.ts and break-glass.test.ts call them
 * with the real thing.
 */
export const NEEDS_MORE_THAN_A_KEY: Readonly<Record<string, readonly string[]>> = {
	AcceptInvitation: ['UNAUTHENTICATED'],
	EndLogin: ['UNAUTHENTICATED', 'LOGIN_FAILED'],
	BeginBreakGlass: ['BREAK_GLASS_INVALID'],
	CompleteBreakGlass: ['BREAK_GLASS_INVALID'],
	EndBreakGlass: ['UNAUTHENTICATED', 'BREAK_GLASS_INVALID'],
};

const REST: Readonly<Record<string, (ids: SampleIds) => Record<string, unknown>>> = {
	AcceptInvitation: () => ({ invitationToken: 'unknown' }),
	CreateApproval: () => ({
		method: 'gpuaas.tokens.v1.TokenService/CreateToken',
		requestJson: '{}',
		reason: 'rack 7',
	}),
	ApproveApproval: ({ approvalId = 'unknown' }) => ({ approvalId, reason: 'x' }),
	RejectApproval: ({ approvalId = 'unknown' }) => ({ approvalId, reason: 'x' }),
	CreateLoginDomain: () => ({ issuer: 'https://id.example', domain: 'acme.example', organization: 'acme' }),
	DeleteLoginDomain: () => ({ id: 'unknown' }),
	RegisterBreakGlassKey: () => ({ name: 'safe', kind: 1, publicKey: Buffer.alloc(44).toString('base64') }),
	RemoveBreakGlassKey: () => ({ id: 'unknown' }),
	BeginBreakGlass: () => ({ reason: 'drill' }),
	CompleteBreakGlass: () => ({ grantId: 'unknown', signatures: [{ keyId: 'unknown' }] }),
	GetProjectMetrics: ({ iam }) => ({ scope: iam.scope }),
	GetQuota: ({ iam }) => ({ scope: iam.scope }),
	ListQuotaUsage: ({ iam }) => ({ scope: iam.scope }),
	SetQuota: ({ iam }) => ({ scope: iam.scope, kind: 'QUOTA_KIND_TASKS', limit: '9', etag: 'v1' }),
	ListEntitlements: ({ iam }) => ({ parent: iam.scope }),
	GrantEntitlement: ({ iam }) => ({ parent: iam.scope, subject: 'gpu-model/*' }),
	EndEntitlement: ({ iam }) => ({ name: sampleName(iam, 'entitlements'), etag: 'v1' }),
	SetFeature: () => ({ feature: 'quota-warnings', scope: 'platform', percentage: 50, etag: '' }),
	UnsetFeature: () => ({ feature: 'quota-warnings', scope: 'platform', etag: 'v1' }),
	CreateTask: () => ({ spec: { run: { argv: ['/bin/true'] } } }),
	WatchNodeTelemetry: () => ({ samplesMax: 1 }),
	QueryTelemetryHistory: () => ({ part: 'host', keys: ['load.1'], from: new Date(1).toISOString() }),
	SetNodeHealthOverride: () => ({ schedulable: true, reason: 'we know', duration: '3600s' }),
	RecordNodeHealthEvidence: () => ({ clearing: HealthClearing.SERVICED, taskId: '', reason: 'a new GPU' }),
	InjectNodeFault: () => ({
		faults: [{ kind: HealthFactKind.PROBE_HUNG, subject: { kind: HealthSubjectKind.NODE } }],
		reason: 'drill',
		duration: '60s',
	}),
	AssignNode: () => ({ organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR }),
	UnlockNode: () => ({ reason: 'looked at both hosts' }),
	RevokeCertificate: ({ serial }) => ({ serial, reason: 'key was copied' }),
	RotateCertificateAuthority: () => ({ step: RotationStep.PREPARE, reason: 'drill' }),
	ListNodes: () => ({}),
	OpenTerminal: () => ({ spec: { shell: {} } }),
	ShareTerminal: () => ({ principalId: 'somebody', mode: AttachMode.OBSERVE }),
	ListTerminals: () => ({ node: '' }),
	ForwardPort: () => ({ port: 8888 }),
	HoldRecording: () => ({ reason: 'a case' }),
	ReleaseRecording: () => ({ reason: 'the case is over' }),
	ListRecordings: () => ({ node: '' }),
	ListTasks: () => ({ node: '' }),
	ListCertificates: () => ({ node: '' }),
};
