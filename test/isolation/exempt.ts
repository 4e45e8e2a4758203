import type { DescMethod } from '@bufbuild/protobuf';
import type { MethodPolicy } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { Caller } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';

/**
 * RPCs that the matrix has no cases for, and why. It may only shrink by itself: whoever adds one says what keeps tenants
 * apart there. Everything else that the contract has gets its cases from its descriptor.
 */
export const EXEMPT: Readonly<Record<string, string>> = {
	'gpuaas.system.v1.SystemService/GetVersion': 'anybody may ask; the answer is of the program, not of anybody’s rows',
	'gpuaas.login.v1.LoginService/GetLoginOptions': 'anybody may ask; the answer is of the configuration',
	'gpuaas.login.v1.LoginService/AcceptInvitation':
		'looked up by a secret that only the invited person has; login-suite.ts',
	'gpuaas.break_glass.v1.BreakGlassService/BeginBreakGlass':
		'of the platform, before anybody is known; break-glass.test.ts',
	'gpuaas.break_glass.v1.BreakGlassService/CompleteBreakGlass':
		'looked up by the signatures of registered keys; break-glass.test.ts',
	'gpuaas.iam.v1.KeyService/ReportLeakedKey':
		'looked up by the key itself; the answer is always the same; iam-keys.test.ts',
	'gpuaas.system.v1.SystemService/WhoAmI': 'about the caller alone; the request is empty',
	'gpuaas.login.v1.LoginService/EndLogin': 'ends the login that the request came with; the request is empty',
	'gpuaas.break_glass.v1.BreakGlassService/EndBreakGlass':
		'ends the grant that the request came with; the request is empty',
};

const OTHER_LISTENERS: Readonly<Record<number, string>> = {
	[Caller.AGENT]: 'on the gateway: the caller is a node by its certificate and names nothing else; link*.test.ts',
	[Caller.JOINER]: 'on the enrollment listener: the caller holds a join token and has no tenant; enrollment*.test.ts',
};

/** Why the method has no cases; undefined when it must have some. */
export function exemptionOf(method: DescMethod, policy: Pick<MethodPolicy, 'caller'>): string | undefined {
	return OTHER_LISTENERS[policy.caller] ?? EXEMPT[`${method.parent.typeName}/${method.name}`];
}
