import type { PrincipalKind, PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import type { Collection } from '../iam/resource-name.ts';
import type { TargetOf } from '../iam/target.ts';

/** The group or service account that a request names, at exactly the scope of the name. Throws the unknown-id answer. */
export function* namedPrincipal(
	tx: Tx,
	policy: CheckedPolicy,
	target: TargetOf['scope'],
	kind: Extract<PrincipalKind, 'group' | 'service_account'>,
): Plan<PrincipalRow> {
	const collection: Collection = kind === 'group' ? 'groups' : 'serviceAccounts';
	if (target.collection !== collection) throw notFound(policy);
	const row = yield* tx.identities.getByName(target.scope.organization, kind, target.id);
	if (row === undefined || row.home !== target.scope.name) throw notFound(policy);
	return row;
}

/** A scope in which principals of its own can live. */
export function assertHome(
	policy: CheckedPolicy,
	{ scope, collection }: TargetOf['scope'],
): TargetOf['scope']['scope'] {
	if (collection !== undefined) throw notFound(policy);
	return scope;
}
