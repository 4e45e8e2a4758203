import { type DescMethod, fromJsonString, type Message } from '@bufbuild/protobuf';
import { GpuaasError, messageOf } from '../../../kit/error.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import type { UseCaseDeps } from '../use-case.ts';

export interface ApprovableMethod {
	readonly method: DescMethod;
	readonly policy: CheckedPolicy;
}

/** A method that needs a step-up; about any other there is nothing to approve. */
export function approvableMethod({ methods }: Pick<UseCaseDeps, 'methods'>, name: string): ApprovableMethod {
	const found = methods?.get(name);
	if (found?.policy.stepUp === true && found.method.methodKind === 'unary') return found;
	throw invalid(
		found === undefined
			? `there is no method ${JSON.stringify(name)}; write it as gpuaas.tokens.v1.TokenService/CreateToken`
			: `${name} needs no step-up, so there is nothing to approve; just call it`,
	);
}

/** Throws INVALID_REQUEST for what is no request of that method. */
export function requestOf({ method }: ApprovableMethod, json: string): Message {
	try {
		return fromJsonString(method.input, json);
	} catch (error) {
		throw invalid(`request_json is no ${method.input.typeName}: ${messageOf(error)}`);
	}
}

function invalid(message: string): GpuaasError {
	return new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message });
}
