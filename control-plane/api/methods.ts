import type { DescMethod, DescService } from '@bufbuild/protobuf';
import { assert } from '../../kit/assert.ts';
import { ApprovalService } from '../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { AuditService } from '../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { BreakGlassService } from '../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import { CertificateService } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { Caller } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { FeatureService } from '../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { OperationService } from '../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { EntitlementService, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { HealthService } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { TelemetryService } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { FileService, PortService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { RecordingService } from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { type CheckedPolicy, checkedPolicy, methodName } from '../app/iam/method-policy.ts';
import type { UseCase } from '../app/use-case.ts';

/** The services of the API listener. Those of agents and joiners are on listeners of their own. */
export const API_SERVICES: readonly DescService[] = [
	ApprovalService,
	AccessService,
	AuditService,
	BreakGlassService,
	CertificateService,
	EntitlementService,
	FeatureService,
	HealthService,
	LoginService,
	KeyService,
	NodeService,
	OperationService,
	PrincipalService,
	QuotaService,
	ScopeService,
	SystemService,
	FileService,
	PortService,
	RecordingService,
	TaskService,
	TelemetryService,
	TerminalService,
	TokenService,
];

/** One row of the table that the listener is built from. */
export interface ApiMethod {
	readonly method: DescMethod;
	readonly policy: CheckedPolicy;
	readonly useCase: UseCase;
}

/**
 * Every method of every service with its policy and its use case. Throws, and so stops the process from starting, when
 * a method has no complete policy, may not be called on this listener, or is served by nobody or by two.
 */
export function apiMethods(
	useCases: readonly UseCase[],
	services: readonly DescService[] = API_SERVICES,
): ReadonlyMap<string, ApiMethod> {
	const table = new Map<string, ApiMethod>();
	for (const method of services.flatMap((service) => service.methods)) {
		const policy = checkedPolicy(method);
		const mayCall = policy.caller === Caller.PRINCIPAL || policy.caller === Caller.ANYONE;
		assert(mayCall, `${policy.name} is not for callers of the API listener`);
		const [useCase, ...others] = useCases.filter((candidate) => methodName(candidate.method) === policy.name);
		assert(
			useCase !== undefined && others.length === 0,
			`${policy.name} is served by ${others.length === 0 ? 'nobody' : 'two'}`,
		);
		table.set(policy.name, { method, policy, useCase });
	}
	for (const { method } of useCases)
		assert(table.has(methodName(method)), `${methodName(method)} is in no API service`);
	return table;
}
