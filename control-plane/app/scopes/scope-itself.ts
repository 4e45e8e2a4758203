import type { ScopeRow } from '../../store/port/scopes.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import type { TargetOf } from '../iam/target.ts';

/** The scope that the request names; a name of something at it names no scope. */
export function assertScopeItself(policy: CheckedPolicy, { scope, collection }: TargetOf['scope']): ScopeRow {
	if (collection !== undefined) throw notFound(policy);
	return scope;
}
