import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

export const QUOTA_KINDS = ['nodes', 'gpus', 'terminals', 'tasks', 'api_keys'] as const;
export type QuotaKind = (typeof QUOTA_KINDS)[number];

/** One kind at one scope. `used` and `reserved` are the sums over the reservations at and below it. */
export interface QuotaRow {
	/** Name of an organization, department or project. */
	readonly scope: string;
	readonly kind: QuotaKind;
	/** Id. */
	readonly organization: string;
	/** Null: no limit of its own. */
	readonly limitMax: number | null;
	/** Committed. */
	readonly used: number;
	readonly reserved: number;
	/** When the limit was set; null: never. */
	readonly changedAtMs: number | null;
	readonly changedBy: string | null;
	/** Rises with every change of the limit, not with use: the etag. */
	readonly version: number;
}

/** What one holder (a task, a terminal, an assignment, a key) takes. Gone with it. */
export interface QuotaReservationRow {
	readonly kind: QuotaKind;
	/** Id of what holds it; one reservation a kind. */
	readonly holder: string;
	/** Where it stands. */
	readonly scope: string;
	readonly organization: string;
	readonly amount: number;
	readonly state: 'reserved' | 'committed';
	readonly createdAtMs: number;
	/** From then on the reconciler releases it; null: only whoever holds it does. */
	readonly expiresAtMs: number | null;
}

export interface QuotaTotal extends Pick<QuotaRow, 'kind' | 'used' | 'reserved'> {
	/** Organizations that have all they may have. */
	readonly full: number;
}

/** The sums over the reservations at exactly this scope, for one kind. */
export interface QuotaHeld extends Pick<QuotaRow, 'scope' | 'kind' | 'used' | 'reserved'> {
	readonly path: string;
}

/** The counters of a scope, with where it stands. */
export type QuotaCounter = QuotaHeld;

export interface Quotas {
	/**
	 * The rows of these scopes of one organization, made where there were none, in the order of their names: the
	 * organization's comes first. In a unit nobody else changes them until the commit, and whoever wants to waits at the
	 * organization's: so of two who reserve the last unit one finds it taken, and no two wait for each other.
	 */
	lock(organization: string, scopes: readonly string[], kind: QuotaKind): Plan<readonly QuotaRow[]>;
	/** Of locked rows: by how much use and reservations change. */
	add(scopes: readonly string[], kind: QuotaKind, by: { readonly used: number; readonly reserved: number }): Plan<void>;
	/** The changed row. */
	setLimit(
		scope: string,
		kind: QuotaKind,
		to: Pick<QuotaRow, 'limitMax' | 'changedAtMs' | 'changedBy'>,
	): Plan<QuotaRow>;
	/** At exactly these scopes, in no order; locks nothing. */
	at(scopes: readonly string[]): Plan<readonly QuotaRow[]>;
	/**
	 * At and below a path and not below one of `denials`, of scopes that aren't deleted; by scope (`page.afterId`), all kinds
	 * of at most `limit` scopes.
	 */
	listIn(path: string, denials: readonly string[], page: Page): Plan<readonly QuotaRow[]>;
	/** Over all organizations, for metrics; one a kind that was ever counted. */
	totals(): Plan<readonly QuotaTotal[]>;
	/** Of organizations that have a limit; by scope and kind, after these. */
	listLimited(after: { readonly scope: string; readonly kind: string }, limit: number): Plan<readonly QuotaRow[]>;

	/** Ids of those that were ever counted, after this one. */
	organizations(afterId: string, limit: number): Plan<readonly string[]>;
	/** Of one organization: what the counters say, all of them; and what the reservations say, scope by scope. */
	counters(organization: string): Plan<readonly QuotaCounter[]>;
	held(organization: string): Plan<readonly QuotaHeld[]>;

	/** Throws ALREADY_EXISTS. */
	insertReservation(row: QuotaReservationRow): Plan<void>;
	/** In a unit, nobody else changes them until the commit. */
	reservations(kind: QuotaKind, holders: readonly string[]): Plan<readonly QuotaReservationRow[]>;
	updateReservation(
		kind: QuotaKind,
		holder: string,
		to: Pick<QuotaReservationRow, 'state' | 'expiresAtMs'>,
	): Plan<void>;
	deleteReservations(kind: QuotaKind, holders: readonly string[]): Plan<void>;
	/** Past their end at `nowMs`. */
	listExpired(nowMs: number, limit: number): Plan<readonly QuotaReservationRow[]>;
	/** All, by kind and holder, after these: for whoever looks whether the holders are still there. */
	listReservations(
		after: { readonly kind: string; readonly holder: string },
		limit: number,
	): Plan<readonly QuotaReservationRow[]>;
}
