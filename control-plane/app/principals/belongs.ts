import { GpuaasError } from '../../../kit/error.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/**
 * A tenant's roles and groups are for its members and for its own service accounts and groups. A stranger is answered
 * as one who doesn't exist, so that ids of other organizations can't be tried out. Throws PRINCIPAL_NOT_FOUND.
 */
export function* assertBelongs(tx: Tx, principalId: string, scope: ScopeRow): Plan<PrincipalRow> {
	const row = yield* tx.identities.getPrincipal(principalId);
	const isThere = row !== undefined && row.deletedAtMs === null;
	if (isThere && (yield* belongs(tx, row, scope))) return row;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'PRINCIPAL_NOT_FOUND',
		message:
			'there is no such member, service account or group here; invite the person first, or list the members for their ids',
	});
}

/** Whether `scope` is a place that the principal can hold roles at. */
export function* belongs(tx: Tx, { id, kind, organization }: PrincipalRow, scope: ScopeRow): Plan<boolean> {
	if (kind === 'group' || kind === 'service_account') return (organization ?? '') === scope.organization;
	if (scope.kind === 'platform') return true;
	return (yield* tx.identities.getMember(scope.organization, id)) !== undefined;
}
