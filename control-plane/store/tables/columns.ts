import { assert } from '../../../kit/assert.ts';
import type { Result, Row } from '../port/unit.ts';

/**
 * How a port's row is kept: one column a field, named by the field in snake_case. Queries select each column under its
 * field's name, so that the driver's row already has the port's shape and only booleans, JSON and bytes are converted.
 */
export type Snake<S extends string> = S extends `${infer Head}${infer Tail}`
	? Head extends Lowercase<Head>
		? `${Head}${Snake<Tail>}`
		: `_${Lowercase<Head>}${Snake<Tail>}`
	: '';

/** The columns of a row type, as Kysely wants them. */
export type Columns<R> = { readonly [Field in keyof R & string as Snake<Field>]: R[Field] };

export type Kind = 'text' | 'int' | 'bool' | 'bytes' | 'json';

type KindOf<T> = [T] extends [boolean]
	? 'bool'
	: [T] extends [number | null]
		? 'int'
		: [T] extends [string | null]
			? 'text'
			: [T] extends [Uint8Array | null]
				? 'bytes'
				: 'json';

export type Spec<R> = { readonly [Field in keyof R]-?: KindOf<R[Field]> };

export function snake(field: string): string {
	return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

export class Table<R extends object> {
	readonly name: string;
	readonly fields: readonly (keyof R & string)[];
	readonly kinds: ReadonlyMap<string, Kind>;
	/** For `select` and `returning` of Kysely. */
	readonly columns: readonly `${Snake<keyof R & string>} as ${string}`[];
	/** The same as SQL text. */
	readonly columnsSql: string;
	readonly #converted: readonly (readonly [field: string, kind: Kind])[];
	readonly #json: readonly (keyof R & string)[];

	constructor(name: string, spec: Spec<R>) {
		this.name = name;
		this.fields = Object.keys(spec) as (keyof R & string)[];
		this.kinds = new Map(Object.entries<Kind>(spec as Readonly<Record<string, Kind>>));
		this.columns = this.fields.map(
			(field) => `${snake(field)} as ${field}` as `${Snake<keyof R & string>} as ${string}`,
		);
		this.columnsSql = this.fields.map((field) => `${name}.${snake(field)} as "${field}"`).join(', ');
		this.#converted = [...this.kinds].filter(([, kind]) => kind !== 'text' && kind !== 'int');
		this.#json = this.fields.filter((field) => this.kinds.get(field) === 'json');
	}

	/** Converts the driver's row in place: it belongs to us. */
	decode(row: Row): R {
		for (const [field, kind] of this.#converted) row[field] = decodeValue(row[field], kind);
		return row as R;
	}

	first(result: Result): R | undefined {
		const row = result.rows[0];
		return row === undefined ? undefined : this.decode(row);
	}

	/** The one row that must be there. */
	only(result: Result): R {
		const row = result.rows[0];
		assert(row !== undefined && result.rows.length === 1, `${this.name}: expected one row, met ${result.rows.length}`);
		return this.decode(row);
	}

	all(result: Result): R[] {
		return result.rows.map((row) => this.decode(row));
	}

	/** The value of a field as a parameter that both drivers take once `Compiler.bind` has seen it. */
	encode(field: keyof R & string, value: unknown): unknown {
		return this.#json.length > 0 && this.#json.includes(field) ? JSON.stringify(value) : value;
	}
}

function decodeValue(value: unknown, kind: Kind): unknown {
	if (value === null) return null;
	if (kind === 'bool') return value === 1 || value === true;
	if (kind === 'json') return JSON.parse(String(value));
	// A plain view: a Buffer would compare and print differently from what was put in.
	assert(value instanceof Uint8Array, 'a bytes column holds bytes');
	return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}
