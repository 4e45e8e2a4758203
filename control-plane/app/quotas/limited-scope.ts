import { GpuaasError } from '../../../kit/error.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import type { TargetOf } from '../iam/target.ts';

/** An organization, department or project itself. The platform's own work is counted nowhere. */
export function limitedScope(policy: CheckedPolicy, { scope, collection }: TargetOf['scope']): ScopeRow {
	if (collection !== undefined) throw notFound(policy);
	if (scope.kind !== 'platform') return scope;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'SCOPE_KIND_INVALID',
		message:
			'organizations, departments and projects are limited and entitled, not the platform itself; nothing was done. Name one of those',
	});
}
