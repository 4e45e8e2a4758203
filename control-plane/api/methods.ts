import type { DescMethod, DescService } from '@bufbuild/protobuf';
import { assert } from '../../kit/assert.ts';
import { AuditService } from '../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { CertificateService } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { Caller } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { OperationService } from '../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { type CheckedPolicy, checkedPolicy, methodName } from '../app/iam/method-policy.ts';
import type { UseCase } from '../app/use-case.ts';

/** The services of the API listener. Those of agents and joiners are on listeners of their own. */
export const API_SERVICES: readonly DescService[] = [
	AuditService,
	CertificateService,
	NodeService,
	OperationService,
	SystemService,
	TaskService,
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
