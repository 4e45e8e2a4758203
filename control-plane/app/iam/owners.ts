import { GpuaasError } from '../../../kit/error.ts';
import type { BindingRow } from '../../store/port/access.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { BREAK_GLASS_PRINCIPAL_ID } from '../break-glass/rules.ts';

/**
 * An organization always has an owner, and the platform an operator: a person who is not suspended, bound directly and
 * without end. Whoever takes one away asks here, after `lockPolicy`: so that of two who leave at once one stays.
 */
const LAST: Readonly<Record<string, string>> = { organization: 'tenant.owner', platform: 'platform.operator' };
/** An organization with more owners than this has other problems than losing the last. */
const OWNERS_LOOKED_AT_MAX = 1000;

/** The role that must not be left without a holder at a scope of this kind. */
export function guardedRole(kind: string): string | undefined {
	return LAST[kind];
}

/** Throws LAST_OWNER when nobody would be left without these bindings and these people. */
export function* assertOwnerLeft(
	tx: Tx,
	scope: { readonly name: string; readonly kind: string },
	without: { readonly bindings?: readonly string[]; readonly principalId?: string },
): Plan<void> {
	const role = LAST[scope.kind];
	if (role === undefined) return;
	const left = (yield* ownersOf(tx, scope.name, role)).filter(
		({ id, principalId }) => without.bindings?.includes(id) !== true && principalId !== without.principalId,
	);
	if (left.length > 0) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'LAST_OWNER',
		message: `this would leave ${scope.name} without anybody who is ${role}, and nothing was changed; give that role to somebody else first`,
	});
}

/** The bindings that count: of people who can log in, direct, without end. Break-glass is open for an hour at most. */
export function* ownersOf(tx: Tx, scope: string, role: string): Plan<readonly BindingRow[]> {
	const bindings = (yield* tx.access.listBindingsOfRole(role, scope, OWNERS_LOOKED_AT_MAX)).filter(
		({ expiresAtMs, permissions }) => expiresAtMs === null && permissions.length === 0,
	);
	const people = new Map(
		(yield* tx.identities.getPrincipals(bindings.map(({ principalId }) => principalId))).map((row) => [row.id, row]),
	);
	return bindings.filter(({ principalId }) => {
		const person = people.get(principalId);
		if (principalId === BREAK_GLASS_PRINCIPAL_ID) return false;
		if (person === undefined || person.disabledAtMs !== null || person.deletedAtMs !== null) return false;
		return person.kind === 'user' || person.kind === 'operator';
	});
}
