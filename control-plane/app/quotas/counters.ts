import { QUOTA_KINDS, type QuotaKind, type QuotaRow } from '../../store/port/quotas.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { ancestorsOf } from '../iam/place.ts';
import { organizationName } from './chain.ts';

type Amounts = Pick<QuotaRow, 'used' | 'reserved'>;

/** A counter that says something else than the reservations at and below its scope. */
export interface Drift {
	readonly scope: string;
	readonly kind: QuotaKind;
	readonly counted: Amounts;
	readonly held: Amounts;
}

/** What one unit corrects; what is left waits for the next. */
const CORRECTED_A_UNIT_MAX = 500;

/**
 * Where the counters of an organization differ from the sums that they stand for, in either direction: as of one snapshot,
 * which is consistent because counters change in the unit that changes a reservation. Locks nothing.
 */
export function* driftIn(tx: Tx, organization: string): Plan<readonly Drift[]> {
	const truth = new Map<string, Map<QuotaKind, Amounts>>();
	for (const { path, kind, used, reserved } of yield* tx.quotas.held(organization))
		for (const above of ancestorsOf(path)) {
			const kinds = truth.get(above) ?? new Map<QuotaKind, Amounts>();
			const before = kinds.get(kind) ?? NOTHING;
			truth.set(above, kinds.set(kind, { used: before.used + used, reserved: before.reserved + reserved }));
		}
	const counters = yield* tx.quotas.counters(organization);
	const found: Drift[] = [];
	for (const { scope, path, kind, used, reserved } of counters) {
		const held = truth.get(path)?.get(kind) ?? NOTHING;
		truth.get(path)?.delete(kind);
		if (held.used !== used || held.reserved !== reserved)
			found.push({ scope, kind, counted: { used, reserved }, held });
	}
	// What is held where no counter is at all.
	const uncounted = [...truth].filter(([, kinds]) => kinds.size > 0);
	for (const { name, path, kind: scopeKind } of yield* tx.scopes.atPaths(uncounted.map(([path]) => path))) {
		if (scopeKind === 'platform') continue;
		for (const [kind, held] of truth.get(path) ?? []) found.push({ scope: name, kind, counted: NOTHING, held });
	}
	return found.toSorted((a, b) => QUOTA_KINDS.indexOf(a.kind) - QUOTA_KINDS.indexOf(b.kind));
}

const NOTHING: Amounts = Object.freeze({ used: 0, reserved: 0 });

/**
 * Makes the counters of one kind what the reservations say. Looks again under the organization's lock, which whoever takes,
 * gives back or moves holds too: so nobody's change is lost, and of two who correct at once the second finds nothing.
 */
export function* correctCounters(tx: Tx, organization: string, kind: QuotaKind): Plan<readonly Drift[]> {
	yield* tx.quotas.lock(organization, [organizationName(organization)], kind);
	const drifted = (yield* driftIn(tx, organization)).filter((one) => one.kind === kind);
	const corrected = drifted.slice(0, CORRECTED_A_UNIT_MAX);
	if (corrected.length === 0) return [];
	// Makes the rows that aren't there.
	yield* tx.quotas.lock(organization, corrected.map(({ scope }) => scope).toSorted(), kind);
	for (const { scope, counted, held } of corrected) {
		const by = { used: held.used - counted.used, reserved: held.reserved - counted.reserved };
		yield* tx.quotas.add([scope], kind, by);
	}
	return corrected;
}
