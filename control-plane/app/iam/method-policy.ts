import type { DescMethod } from '@bufbuild/protobuf';
import { getOption, hasOption } from '@bufbuild/protobuf';
import { assert } from '../../../kit/assert.ts';
import {
	AuditClass,
	Caller,
	Idempotency,
	type MethodPolicy,
	policy,
	RateClass,
	ScopeSource,
	StepUp,
} from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';

import { permissionBit } from './permissions.ts';

/** What kind of thing a method's permission is checked against, from the method's policy option. */
export type TargetKind =
	| 'platform'
	| 'self'
	| 'any'
	| 'node'
	| 'task'
	| 'operation'
	| 'scope'
	| 'recording'
	| 'terminal';

const TARGET_KINDS: Readonly<Record<number, TargetKind>> = {
	[ScopeSource.PLATFORM]: 'platform',
	[ScopeSource.CALLER]: 'self',
	[ScopeSource.FILTERED]: 'any',
	[ScopeSource.NODE]: 'node',
	[ScopeSource.TASK]: 'task',
	[ScopeSource.OPERATION]: 'operation',
	[ScopeSource.SCOPE]: 'scope',
	[ScopeSource.RECORDING]: 'recording',
	[ScopeSource.TERMINAL]: 'terminal',
};

/** A policy that was found complete: the only form in which the rest of the program sees one. */
export interface CheckedPolicy {
	/** `gpuaas.tasks.v1.TaskService/CreateTask`. */
	readonly name: string;
	readonly caller: Caller;
	readonly permission: string;
	/** Its number; undefined for an empty one. */
	readonly permissionBit: number | undefined;
	/** Changes nothing. */
	readonly reads: boolean;
	readonly target: TargetKind;
	/** Field of the request, as in the generated message, that names the target; empty for platform, self and any. */
	readonly targetField: string;
	readonly audit: AuditClass;
	readonly stepUp: boolean;
	readonly idempotency: Idempotency;
	readonly rate: RateClass;
}

export function methodName(method: DescMethod): string {
	return `${method.parent.typeName}/${method.name}`;
}

/** Throws when the option is missing or incomplete: a process that would serve such a method must not start. */
export function checkedPolicy(method: DescMethod): CheckedPolicy {
	const name = methodName(method);
	assert(hasOption(method, policy), `${name} has no (gpuaas.common.v1.policy) option`);
	const option = getOption(method, policy);
	for (const problem of problemsOf(option, method)) assert(false, `${name}: ${problem}`);
	const target = TARGET_KINDS[option.scope];
	assert(target !== undefined, `${name}: policy.scope is unknown`);
	const checked: CheckedPolicy = Object.freeze({
		name,
		caller: option.caller,
		permission: option.permission,
		permissionBit: option.permission === '' ? undefined : permissionBit(option.permission),
		reads: option.audit === AuditClass.NONE || option.audit === AuditClass.READ,
		target,
		targetField: method.input.fields.find((field) => field.name === option.scopeField)?.localName ?? '',
		audit: option.audit,
		stepUp: option.stepUp === StepUp.REQUIRED,
		idempotency: option.idempotency,
		rate: option.rate,
	});
	KNOWN.set(name, checked);
	return checked;
}

/** Every policy that was found complete, by the method's full name. */
const KNOWN = new Map<string, CheckedPolicy>();

/** Of a method that this process serves, by its full name, or as much of its end as tells it from all others. */
export function policyNamed(name: string): CheckedPolicy | undefined {
	const exact = KNOWN.get(name) ?? KNOWN.get(`gpuaas.${name}`);
	if (exact !== undefined) return exact;
	const found = [...KNOWN.values()].filter(
		(policy) => policy.name.endsWith(`/${name}`) || policy.name.endsWith(`.${name}`),
	);
	return found.length === 1 ? found[0] : undefined;
}

function* problemsOf(option: MethodPolicy, method: DescMethod): Generator<string> {
	if (option.caller === Caller.UNSPECIFIED) yield 'policy.caller is not set';
	if (option.scope === ScopeSource.UNSPECIFIED) yield 'policy.scope is not set';
	if (option.audit === AuditClass.UNSPECIFIED) yield 'policy.audit is not set';
	if (option.stepUp === StepUp.UNSPECIFIED) yield 'policy.step_up is not set';
	if (option.idempotency === Idempotency.UNSPECIFIED) yield 'policy.idempotency is not set';
	if (option.rate === RateClass.UNSPECIFIED) yield 'policy.rate is not set';
	const mayLackPermission = option.caller !== Caller.PRINCIPAL || option.scope === ScopeSource.CALLER;
	if (option.permission === '' && !mayLackPermission) yield 'policy.permission is not set';
	const named = method.input.fields.find((field) => field.name === option.scopeField);
	const isObject = !['platform', 'self', 'any'].includes(TARGET_KINDS[option.scope] ?? 'self');
	if (isObject && named === undefined) yield `policy.scope_field "${option.scopeField}" is not a field of the request`;
	const keyed = option.idempotency === Idempotency.REQUEST_ID;
	if (keyed && !method.input.fields.some((field) => field.name === 'request_id')) yield 'the request has no request_id';
}
