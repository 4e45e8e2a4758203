import {
	type Compilable,
	DummyDriver,
	Kysely,
	PostgresAdapter,
	PostgresIntrospector,
	PostgresQueryCompiler,
	type RawBuilder,
	SqliteAdapter,
	SqliteIntrospector,
	SqliteQueryCompiler,
	sql,
} from 'kysely';
import { assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Plan, Statement } from '../port/unit.ts';
import { snake, type Table } from './columns.ts';
import type { Database } from './schema.ts';

/**
 * Makes statements for one dialect. Kysely builds and checks queries against the schema's types and never runs one:
 * its driver is a dummy, and its transactions are banned (a synchronous transaction inside an open Kysely one becomes
 * a savepoint and loses acknowledged rows). A query is compiled once, with slots in place of values, and bound as often
 * as needed: building one takes ten times as long as running it on SQLite.
 */
export type Dialect = 'sqlite' | 'postgres';

/** A value that is known only when the statement is bound. */
class Slot {
	readonly name: string;

	constructor(name: string) {
		this.name = name;
	}
}

export type SlotOf<P> = <Name extends keyof P & string>(name: Name) => P[Name];

/** Bounds the statements of one dialect: shapes are made by code, never by input, so this is never met. */
const SHAPES_MAX = 2000;

function nulCharacter(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: 'a text holds a NUL character, which can’t be stored; nothing was written. Send it without',
	});
}

export interface Condition {
	/** With one `?`, or none when `value` is left out. */
	readonly sql: string;
	readonly value?: unknown;
}

export class Compiler {
	readonly dialect: Dialect;
	readonly #locksRows: boolean;
	readonly #db: Kysely<Database>;
	readonly #texts = new Map<string, string>();

	/** `locksRows`: for units of a store on which others may write at the same time. */
	constructor(dialect: Dialect, locksRows = false) {
		this.dialect = dialect;
		this.#locksRows = locksRows;
		this.#db = new Kysely<Database>({
			dialect:
				dialect === 'sqlite'
					? {
							createAdapter: () => new SqliteAdapter(),
							createDriver: () => new DummyDriver(),
							createIntrospector: (db) => new SqliteIntrospector(db),
							createQueryCompiler: () => new SqliteQueryCompiler(),
						}
					: {
							createAdapter: () => new PostgresAdapter(),
							createDriver: () => new DummyDriver(),
							createIntrospector: (db) => new PostgresIntrospector(db),
							createQueryCompiler: () => new PostgresQueryCompiler(),
						},
		});
	}

	/** Compiles now, binds on each call of what it returns. */
	prepare<P extends object>(build: (db: Kysely<Database>, slot: SlotOf<P>) => Compilable): (values: P) => Statement {
		const compiled = build(this.#db, (name) => new Slot(name) as never).compile();
		const parameters = compiled.parameters.map((parameter) =>
			parameter instanceof Slot ? parameter : this.bind(parameter),
		);
		return (values) => ({
			sql: compiled.sql,
			parameters: parameters.map((parameter) =>
				parameter instanceof Slot ? this.bind((values as Record<string, unknown>)[parameter.name]) : parameter,
			),
		});
	}

	/** As `prepare` for a query whose form depends on its arguments: compiled once for each `shape`. */
	prepareShapes<P extends object, S extends string>(
		build: (db: Kysely<Database>, slot: SlotOf<P>, shape: S) => Compilable,
	): (shape: S, values: P) => Statement {
		const prepared = new Map<S, (values: P) => Statement>();
		return (shape, values) => {
			let bind = prepared.get(shape);
			if (bind === undefined) {
				assert(prepared.size < SHAPES_MAX, 'a query has too many forms: some part of its form comes from input');
				bind = this.prepare<P>((db, slot) => build(db, slot, shape));
				prepared.set(shape, bind);
			}
			return bind(values);
		};
	}

	/** For a row that is read by its key: in a unit, nobody else changes it until the commit. */
	locked<Q extends { forNoKeyUpdate(): Q }>(query: Q): Q {
		return this.#locksRows ? query.forNoKeyUpdate() : query;
	}

	/** One value as both drivers want it. Arrays are lists for `inList`; JSON comes as text. */
	bind(value: unknown): unknown {
		switch (typeof value) {
			case 'string':
				if (value.includes('\0')) throw nulCharacter();
				return value;
			case 'number':
				assert(Number.isSafeInteger(value), `the store keeps whole numbers within 2^53, not ${value}`);
				return value;
			case 'boolean':
				return this.dialect === 'sqlite' ? Number(value) : value;
			default:
		}
		if (value === null || value instanceof Uint8Array) return value;
		assert(Array.isArray(value), `a statement was bound with ${typeof value}`);
		return this.dialect === 'sqlite' ? JSON.stringify(value) : value;
	}

	/** `expression IN list`, where the list is one parameter. */
	inList(column: string, list: readonly string[]): RawBuilder<boolean> {
		return this.dialect === 'sqlite'
			? sql<boolean>`${sql.ref(column)} in (select value from json_each(${list as unknown}))`
			: sql<boolean>`${sql.ref(column)} = any(${list as unknown}::text[])`;
	}

	/** The same as SQL text with one `?`. */
	inListText(column: string): string {
		return this.dialect === 'sqlite' ? `${column} in (select value from json_each(?))` : `${column} = any(?::text[])`;
	}

	/** As `prepare` for a statement that is written as text with `?`; the text says everything about its form. */
	select<R extends object>(table: Table<R>, rest: string): (...values: readonly unknown[]) => Statement {
		return this.statement(`select ${table.columnsSql} from ${table.name} ${rest}`);
	}

	/** `select` of rows by their key: in a unit, nobody else changes them until the commit. */
	selectLocked<R extends object>(table: Table<R>, rest: string): (...values: readonly unknown[]) => Statement {
		return this.select(table, this.#locksRows ? `${rest} for no key update` : rest);
	}

	statement(template: string): (...values: readonly unknown[]) => Statement {
		const sql = this.text(template);
		return (...values) => ({ sql, parameters: values.map((value) => this.bind(value)) });
	}

	/** Whether the JSON object in `column` has this text under this key. */
	hasEntry(column: string, key: string, value: string): RawBuilder<boolean> {
		return this.dialect === 'sqlite'
			? sql<boolean>`exists (select 1 from json_each(${sql.ref(column)}) as entry where entry.key = ${key} and entry.value = ${value})`
			: sql<boolean>`${sql.ref(column)} ->> ${key}::text = ${value}::text`;
	}

	/** The same as SQL text with two `?`: key and value. */
	hasEntryText(column: string): string {
		return this.dialect === 'sqlite'
			? `exists (select 1 from json_each(${column}) as entry where entry.key = ? and entry.value = ?)`
			: `${column} ->> ?::text = ?::text`;
	}

	/** Replaces `?` by what the dialect numbers its parameters with. */
	text(template: string): string {
		if (this.dialect === 'sqlite') return template;
		let index = 0;
		return template.replaceAll('?', () => {
			index += 1;
			return `$${index}`;
		});
	}

	insert<R extends object>(table: Table<R>): (row: R) => Statement {
		const columns = table.fields.map(snake).join(', ');
		const text = this.text(`insert into ${table.name} (${columns}) values (${table.fields.map(() => '?').join(', ')})`);
		return (row) => ({
			sql: text,
			parameters: table.fields.map((field) => this.bind(table.encode(field, row[field]))),
		});
	}

	/**
	 * Changes the row whose `key` field is `id`, if the conditions hold, and gives the changed row. `always` is added to
	 * the SET list.
	 */
	*patch<R extends object>(
		table: Table<R>,
		[key, id]: readonly [key: keyof R & string, id: string],
		patch: Partial<R>,
		conditions: readonly Condition[] = [],
		always = '',
	): Plan<R | undefined> {
		const returning = this.dialect === 'postgres' ? ` returning ${table.columnsSql}` : '';
		const result = yield this.patching(table, [key, id], patch, conditions, always, returning);
		if (this.dialect === 'postgres' || result.changes === 0) return table.first(result);
		// On SQLite, where a statement costs no round trip, reading the row is cheaper than RETURNING all of it.
		const get = `select ${table.columnsSql} from ${table.name} where ${snake(key)} = ?`;
		return table.only(yield { sql: get, parameters: [id] });
	}

	/** The statement of `patch`, for whoever needs to know only whether it changed something. */
	patching<R extends object>(
		table: Table<R>,
		[key, id]: readonly [key: keyof R & string, id: string],
		patch: Partial<R>,
		conditions: readonly Condition[],
		always = '',
		returning = '',
	): Statement {
		const fields = Object.keys(patch) as (keyof R & string)[];
		const parameters = fields.map((field) => this.bind(table.encode(field, patch[field])));
		parameters.push(id);
		for (const condition of conditions) if ('value' in condition) parameters.push(this.bind(condition.value));
		const shape = `${table.name}|${fields.join()}|${conditions.map((condition) => condition.sql).join('&')}|${always}|${returning}`;
		let text = this.#texts.get(shape);
		if (text === undefined) {
			assert(this.#texts.size < SHAPES_MAX, 'a patch has too many forms: some part of its form comes from input');
			text = this.#patchText(table, key, fields, conditions, always) + returning;
			this.#texts.set(shape, text);
		}
		return { sql: text, parameters };
	}

	#patchText<R extends object>(
		table: Table<R>,
		key: keyof R & string,
		fields: readonly (keyof R & string)[],
		conditions: readonly Condition[],
		always: string,
	): string {
		for (const field of fields) assert(table.kinds.has(field), `${table.name} has no field ${field}`);
		const sets = [...fields.map((field) => `${snake(field)} = ?`), ...(always === '' ? [] : [always])];
		// A patch that changes nothing still tells whether the conditions hold.
		if (sets.length === 0) sets.push(`${snake(key)} = ${snake(key)}`);
		const where = [`${snake(key)} = ?`, ...conditions.map((condition) => `(${condition.sql})`)].join(' and ');
		return this.text(`update ${table.name} set ${sets.join(', ')} where ${where}`);
	}
}
