import type { GpuaasError } from '../../../kit/error.ts';
import type { CheckedPolicy } from './method-policy.ts';
import { refusal } from './target.ts';

/** Exactly what somebody reads who may not see it: in the words of the method's own refusal. */
export function notFound(policy: CheckedPolicy): GpuaasError {
	return refusal('NOT_FOUND', policy);
}
