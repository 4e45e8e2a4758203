import type { QuotaHeld, QuotaKind, QuotaReservationRow, Quotas } from '../port/quotas.ts';
import type { Plan, Row } from '../port/unit.ts';
import type { Compiler } from './compiler.ts';
import { QUOTA_RESERVATIONS, QUOTAS } from './quota-schema.ts';
import { rangesOf, visiblePath } from './visibility.ts';

export function quotasTable(compiler: Compiler): Quotas {
	return { ...counters(compiler), ...lists(compiler), ...sums(compiler), ...reservations(compiler) };
}

function counters(compiler: Compiler): Pick<Quotas, 'lock' | 'add' | 'setLimit'> {
	// Locked in the order of the names: PostgreSQL locks what comes out of the sort.
	const locked = compiler.selectLocked(QUOTAS, `where ${compiler.inListText('scope')} and kind = ? order by scope`);
	const ensure = compiler.statement(
		`insert into quotas (scope, kind, organization, limit_max, used, reserved, changed_at_ms, changed_by, version)
		values (?, ?, ?, null, 0, 0, null, null, 1) on conflict (scope, kind) do nothing`,
	);
	// Never below nothing: a counter that is too low (the reconciler of counters mends it) must not keep what ends from ending.
	const sum = (column: string) => `${column} = case when ${column} + ? < 0 then 0 else ${column} + ? end`;
	const add = compiler.statement(
		`update quotas set ${sum('used')}, ${sum('reserved')} where ${compiler.inListText('scope')} and kind = ?`,
	);
	const set = compiler.statement(
		`update quotas set limit_max = ?, changed_at_ms = ?, changed_by = ?, version = version + 1
		where scope = ? and kind = ?`,
	);
	const one = compiler.select(QUOTAS, 'where scope = ? and kind = ?');
	return {
		*lock(organization, scopes, kind) {
			const there = QUOTAS.all(yield locked(scopes, kind));
			if (there.length === scopes.length) return there;
			for (const scope of scopes.toSorted()) yield ensure(scope, kind, organization);
			return QUOTAS.all(yield locked(scopes, kind));
		},
		*add(scopes, kind, { used, reserved }) {
			yield add(used, used, reserved, reserved, scopes, kind);
		},
		*setLimit(scope, kind, { limitMax, changedAtMs, changedBy }) {
			yield set(limitMax, changedAtMs, changedBy, scope, kind);
			return QUOTAS.only(yield one(scope, kind));
		},
	};
}

function lists(compiler: Compiler): Pick<Quotas, 'at' | 'listIn' | 'listLimited' | 'totals'> {
	const at = compiler.select(QUOTAS, `where ${compiler.inListText('scope')}`);
	const inPath = compiler.select(
		QUOTAS,
		`join (select distinct quotas.scope as name from quotas join scopes on scopes.name = quotas.scope
			where ${visiblePath(compiler, 'scopes.path')} and scopes.state <> 'deleted' and quotas.scope > ?
			order by name limit ?) as listed on listed.name = quotas.scope order by quotas.scope, quotas.kind`,
	);
	const totals = compiler.statement(
		`select kind, sum(used) as used, sum(reserved) as reserved,
		sum(case when used + reserved >= limit_max then 1 else 0 end) as full_count
		from quotas where scope = 'organizations/' || organization group by kind order by kind`,
	);
	const limited = compiler.select(
		QUOTAS,
		`where scope = 'organizations/' || organization and limit_max is not null and (scope, kind) > (?, ?)
		order by scope, kind limit ?`,
	);
	return {
		*at(scopes) {
			return scopes.length === 0 ? [] : QUOTAS.all(yield at(scopes));
		},
		*listIn(path, denials, { afterId, limit }) {
			return QUOTAS.all(yield inPath(rangesOf([path]), rangesOf(denials), afterId, limit));
		},
		*totals() {
			return (yield totals()).rows.map(({ kind, used, reserved, full_count }) => ({
				kind: String(kind) as QuotaKind,
				used: Number(used),
				reserved: Number(reserved),
				full: Number(full_count),
			}));
		},
		*listLimited({ scope, kind }, limit) {
			return QUOTAS.all(yield limited(scope, kind, limit));
		},
	};
}

/** For whoever compares what is counted with what is held. */
function sums(compiler: Compiler): Pick<Quotas, 'organizations' | 'counters' | 'held'> {
	const organizations = compiler.statement(
		`select organization from quotas where organization > ?
		union select organization from quota_reservations where organization > ? order by organization limit ?`,
	);
	const counters = compiler.statement(
		`select quotas.scope as scope, scopes.path as path, quotas.kind as kind, quotas.used as used, quotas.reserved as reserved
		from quotas join scopes on scopes.name = quotas.scope where quotas.organization = ?`,
	);
	const held = compiler.statement(
		`select sums.scope as scope, scopes.path as path, sums.kind as kind, sums.used as used, sums.reserved as reserved
		from (select scope, kind, sum(case when state = 'committed' then amount else 0 end) as used,
			sum(case when state = 'reserved' then amount else 0 end) as reserved
			from quota_reservations where organization = ? group by scope, kind) as sums
		join scopes on scopes.name = sums.scope`,
	);
	return {
		*organizations(afterId, limit) {
			return (yield organizations(afterId, afterId, limit)).rows.map(({ organization }) => String(organization));
		},
		*counters(organization) {
			return (yield counters(organization)).rows.map(heldOf);
		},
		*held(organization) {
			return (yield held(organization)).rows.map(heldOf);
		},
	};
}

function heldOf({ scope, path, kind, used, reserved }: Row): QuotaHeld {
	return {
		scope: String(scope),
		path: String(path),
		kind: String(kind) as QuotaKind,
		used: Number(used),
		reserved: Number(reserved),
	};
}

type Reservations =
	| 'insertReservation'
	| 'reservations'
	| 'updateReservation'
	| 'deleteReservations'
	| 'listExpired'
	| 'listReservations';

function reservations(compiler: Compiler): Pick<Quotas, Reservations> {
	const insert = compiler.insert(QUOTA_RESERVATIONS);
	const ofHolders = compiler.selectLocked(
		QUOTA_RESERVATIONS,
		`where kind = ? and ${compiler.inListText('holder')} order by holder`,
	);
	const update = compiler.statement(
		'update quota_reservations set state = ?, expires_at_ms = ? where kind = ? and holder = ?',
	);
	const remove = compiler.statement(
		`delete from quota_reservations where kind = ? and ${compiler.inListText('holder')}`,
	);
	const expired = compiler.select(
		QUOTA_RESERVATIONS,
		'where expires_at_ms is not null and expires_at_ms <= ? order by expires_at_ms limit ?',
	);
	const after = compiler.select(QUOTA_RESERVATIONS, 'where (kind, holder) > (?, ?) order by kind, holder limit ?');
	return {
		*insertReservation(row: QuotaReservationRow) {
			yield insert(row);
		},
		*reservations(kind: QuotaKind, holders) {
			return holders.length === 0 ? [] : QUOTA_RESERVATIONS.all(yield ofHolders(kind, holders));
		},
		*updateReservation(kind, holder, { state, expiresAtMs }): Plan<void> {
			yield update(state, expiresAtMs, kind, holder);
		},
		*deleteReservations(kind, holders) {
			if (holders.length > 0) yield remove(kind, holders);
		},
		*listExpired(nowMs, limit) {
			return QUOTA_RESERVATIONS.all(yield expired(nowMs, limit));
		},
		*listReservations({ kind, holder }, limit) {
			return QUOTA_RESERVATIONS.all(yield after(kind, holder, limit));
		},
	};
}
