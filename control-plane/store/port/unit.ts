/**
 * A unit of work, written once for both dialects: a generator that yields statements and is given their rows.
 * SQLite steps it synchronously inside a SAVEPOINT of the group commit; PostgreSQL awaits each statement inside one
 * transaction. A plan does no I/O of its own, awaits nothing, and may be run again from the start after a
 * serialization failure: so it takes ids, times and random values as arguments and changes nothing outside.
 *
 * A statement that fails ends the unit: the error is not thrown into the plan, because PostgreSQL could not go on
 * after it. Catch it where the unit was awaited.
 */
export interface Statement {
	readonly sql: string;
	readonly parameters: readonly unknown[];
	/** See `asPlatform`. */
	readonly asPlatform?: true;
}

/** As the driver gives it: snake_case columns. */
export type Row = Record<string, unknown>;

/** What a statement gave back. */
export interface Result {
	readonly rows: readonly Row[];
	/** Rows inserted, updated or deleted. */
	readonly changes: number;
}

/** `yield*` one to run it inside the unit. */
export type Plan<T> = Generator<Statement, T, Result>;

/**
 * The platform's own reads and writes inside a tenant's unit: who may do what, the audit record, limits of a node that
 * tenants share. On PostgreSQL these statements alone see rows of everybody; what they find is never shown to the tenant
 * without a check of its own. test/architecture lists who may ask for it. On SQLite it changes nothing.
 */
export function* asPlatform<T>(plan: Plan<T>): Plan<T> {
	let isDone = false;
	try {
		let next = plan.next();
		while (next.done !== true) next = plan.next(yield { ...next.value, asPlatform: true });
		isDone = true;
		return next.value;
	} finally {
		if (!isDone) plan.return(undefined as never);
	}
}
