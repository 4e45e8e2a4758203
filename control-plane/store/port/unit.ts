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
