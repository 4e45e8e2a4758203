import type { QuotaKind, QuotaReservationRow, QuotaRow } from '../../store/port/quotas.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { lockChain } from './chain.ts';
import { assertRoom } from './exceeded.ts';

/**
 * The one way to take from a quota. Two-phase: what is being made is reserved, with an end, and committed once it is
 * there; what is there at once is committed from the start. Each level from the scope up to its organization must have
 * room, is checked and changed under its lock, in the unit that makes what is counted, and given back in the unit that
 * ends it. A reservation past its end is released by reconcilers/quotas.ts. A limit that was lowered below what is used
 * ends nothing: it only keeps more from being added.
 *
 * Invariants, each a test: no level is ever brought above its limit; at every scope `used` and `reserved` are the sums
 * over the reservations at and below it.
 */
export interface Wish {
	readonly kind: QuotaKind;
	/** Id of what will hold it. */
	readonly holder: string;
	/** Name of the project, or of whatever it stands at. */
	readonly scope: string;
	/** Id. */
	readonly organization: string;
	readonly amount: number;
	readonly nowMs: number;
}

/** For what is being made: until `expiresAtMs`. Throws QUOTA_EXCEEDED. */
export function reserveQuota(tx: Tx, wish: Wish, expiresAtMs: number): Plan<void> {
	return take(tx, wish, 'reserved', expiresAtMs);
}

/** For what is there with this unit; `expiresAtMs`: when it ends by itself. Throws QUOTA_EXCEEDED. */
export function takeQuota(tx: Tx, wish: Wish, expiresAtMs: number | null = null): Plan<void> {
	return take(tx, wish, 'committed', expiresAtMs);
}

function* take(tx: Tx, wish: Wish, state: QuotaReservationRow['state'], expiresAtMs: number | null): Plan<void> {
	const { kind, holder, scope, organization, amount, nowMs } = wish;
	if (amount === 0) return;
	const rows = yield* lockChain(tx, organization, scope, kind);
	assertRoom(rows, amount);
	yield* tx.quotas.insertReservation({
		kind,
		holder,
		scope,
		organization,
		amount,
		state,
		createdAtMs: nowMs,
		expiresAtMs,
	});
	yield* addTo(tx, rows, { [state]: amount });
}

/** What was reserved is there. False when there is no such reservation: it was never made, or it ended meanwhile. */
export function* commitQuota(tx: Tx, { kind, holder }: Pick<Wish, 'kind' | 'holder'>): Plan<boolean> {
	const [row] = yield* tx.quotas.reservations(kind, [holder]);
	if (row === undefined) return false;
	if (row.state === 'committed') return true;
	const rows = yield* lockChain(tx, row.organization, row.scope, kind);
	yield* addTo(tx, rows, { reserved: -row.amount, committed: row.amount });
	yield* tx.quotas.updateReservation(kind, holder, { state: 'committed', expiresAtMs: null });
	return true;
}

/** Gives back what these holders have; those that have nothing are left out. */
export function* releaseQuota(tx: Tx, kind: QuotaKind, holders: readonly string[]): Plan<void> {
	const held = yield* tx.quotas.reservations(kind, holders);
	const scopes = new Map(held.map(({ scope, organization }) => [scope, organization]));
	// By name, so that two who release for several organizations never wait for each other.
	for (const scope of [...scopes.keys()].toSorted()) {
		const rows = yield* lockChain(tx, scopes.get(scope) ?? '', scope, kind);
		yield* addTo(tx, rows, {
			committed: -sum(held, scope, 'committed'),
			reserved: -sum(held, scope, 'reserved'),
		});
	}
	yield* tx.quotas.deleteReservations(
		kind,
		held.map(({ holder }) => holder),
	);
}

function sum(held: readonly QuotaReservationRow[], scope: string, state: QuotaReservationRow['state']): number {
	return held
		.filter((row) => row.scope === scope && row.state === state)
		.reduce((total, { amount }) => total + amount, 0);
}

/** A longer life for what ends by itself; undefined holders have nothing to lengthen. */
export function* extendQuota(tx: Tx, wish: Wish, expiresAtMs: number): Plan<void> {
	const [row] = yield* tx.quotas.reservations(wish.kind, [wish.holder]);
	if (row === undefined) return yield* takeQuota(tx, wish, expiresAtMs);
	yield* tx.quotas.updateReservation(wish.kind, wish.holder, { state: row.state, expiresAtMs });
}

function* addTo(
	tx: Tx,
	rows: readonly QuotaRow[],
	{ committed = 0, reserved = 0 }: { readonly committed?: number; readonly reserved?: number },
): Plan<void> {
	const [first] = rows;
	if (first === undefined) return;
	yield* tx.quotas.add(
		rows.map(({ scope }) => scope),
		first.kind,
		{ used: committed, reserved },
	);
}
