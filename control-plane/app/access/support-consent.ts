import { GpuaasError } from '../../../kit/error.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** Long enough for a case, short enough that nobody forgets it. */
const CONSENT_MAX_MS = 8 * 3_600_000;
export const SUPPORT_ROLE = 'tenant.support';

/**
 * Support with consent: a tenant's administrator lets one person of the platform's support look in, for hours, with
 * each permission listed. The person is no member and needs none. Undefined when this binding is about something else;
 * throws SUPPORT_CONSENT_INVALID.
 */
export function* supportPerson(
	tx: Tx,
	asked: {
		readonly scope: ScopeRow;
		readonly role: string;
		readonly principalId: string;
		readonly permissions: readonly string[];
		readonly expiresAtMs: number | null;
		readonly nowMs: number;
	},
): Plan<PrincipalRow | undefined> {
	if (asked.role !== SUPPORT_ROLE) return undefined;
	const lasts = asked.expiresAtMs === null ? Number.POSITIVE_INFINITY : asked.expiresAtMs - asked.nowMs;
	if (lasts > CONSENT_MAX_MS || asked.permissions.length === 0) throw invalid();
	const person = yield* tx.identities.getPrincipal(asked.principalId);
	const isThere = person?.kind === 'user' && person.disabledAtMs === null && person.deletedAtMs === null;
	const bindings = isThere ? yield* tx.access.listBindings([person.id]) : [];
	const isSupport = bindings.some(
		({ role, scope, expiresAtMs }) =>
			role === 'platform.support' && scope === 'platform' && (expiresAtMs === null || expiresAtMs > asked.nowMs),
	);
	if (!isSupport || person === undefined) throw invalid();
	return person;
}

/** For what gives a role without end and without naming permissions. Throws SUPPORT_CONSENT_INVALID. */
export function assertNotSupport(role: string): void {
	if (role === SUPPORT_ROLE) throw invalid();
}

function invalid(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SUPPORT_CONSENT_INVALID',
		message:
			'tenant.support goes to a person of the platform’s support, for at most 8 hours, with each permission listed; nothing was changed',
	});
}
