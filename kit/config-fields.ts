/**
 * The types that a configuration value can have: how each is read from TOML and from an environment variable, checked,
 * and shown again. Durations and sizes carry their unit in the file (`lease_ttl = "45s"`) and become plain numbers
 * whose name says the unit (`leaseTtlMs`). Used through kit/config.ts.
 */
export interface Field<T> {
	readonly doc: string;
	/** Undefined: the key must be set, or, when `optional`, its absence is the value undefined. */
	readonly fallback: T | undefined;
	readonly optional: boolean;
	/** Masked wherever it is shown, and refused from the environment. Prefer a `path` to a file. */
	readonly secret: boolean;
	/** What a person must write, for messages: `a duration such as "30s"`. */
	readonly expects: string;
	/** The name's suffix that the file leaves out because the value carries its unit: `Ms`, `Bytes`, or none. */
	readonly unitSuffix: string;
	/** Reads a TOML value (or the text of an environment variable) or says why not. */
	read(raw: unknown): Read<T>;
	/** As TOML text. */
	show(value: T): string;
}

export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string };

interface Common<T> {
	readonly doc: string;
	readonly default?: T;
	readonly secret?: boolean;
}

function accept<T>(value: T): Read<T> {
	return { ok: true, value };
}

function refuse(why: string): Read<never> {
	return { ok: false, why };
}

function field<T>(
	common: Common<T>,
	rest: Pick<Field<T>, 'expects' | 'read' | 'show'> & { unitSuffix?: string },
): Field<T> {
	return Object.freeze({
		doc: common.doc,
		fallback: common.default,
		optional: false,
		secret: common.secret ?? false,
		unitSuffix: '',
		...rest,
	});
}

/** The same field, whose absence is the value undefined. */
export function optional<T>(inner: Field<T>): Field<T | undefined> {
	return Object.freeze({ ...inner, optional: true, show: (value) => (value === undefined ? '""' : inner.show(value)) });
}

export interface StringOptions extends Common<string> {
	readonly lengthMax?: number;
	readonly pattern?: RegExp;
	/** What `pattern` means, for the message. */
	readonly expects?: string;
}

export function string(options: StringOptions): Field<string> {
	const { lengthMax = 4096, pattern, expects = 'a string' } = options;
	return field(options, {
		expects,
		read(raw) {
			if (typeof raw !== 'string') return refuse(`is ${kindOf(raw)}`);
			if (raw.length > lengthMax) return refuse(`is longer than ${lengthMax} characters`);
			if (raw.includes('\0')) return refuse('contains a NUL character');
			return pattern === undefined || pattern.test(raw) ? accept(raw) : refuse('has another form');
		},
		show: (value) => JSON.stringify(value),
	});
}

/** An absolute path, or one relative to the working directory. */
export function path(options: Common<string>): Field<string> {
	return string({ ...options, expects: 'a file path', pattern: /./ });
}

export function bool(options: Common<boolean>): Field<boolean> {
	return field(options, {
		expects: 'true or false',
		read(raw) {
			if (raw === true || raw === 'true') return accept(true);
			if (raw === false || raw === 'false') return accept(false);
			return refuse(`is ${kindOf(raw)}`);
		},
		show: String,
	});
}

export interface IntOptions extends Common<number> {
	readonly min: number;
	readonly max: number;
	/** For messages and --print-config: `connections`, `per second`. */
	readonly unit?: string;
}

export function int(options: IntOptions): Field<number> {
	const { min, max, unit } = options;
	return field(options, {
		expects: `a whole number from ${min} to ${max}${unit === undefined ? '' : ` (${unit})`}`,
		read(raw) {
			const value = typeof raw === 'string' && /^-?\d{1,15}$/.test(raw) ? Number(raw) : raw;
			return whole(value, min, max);
		},
		show: String,
	});
}

function whole(value: unknown, min: number, max: number): Read<number> {
	if (typeof value !== 'number' || !Number.isSafeInteger(value)) return refuse(`is ${kindOf(value)}`);
	if (value < min || value > max) return refuse(`is ${value}`);
	return accept(value);
}

export function oneOf<const T extends string>(values: readonly T[], options: Common<T>): Field<T> {
	return field(options, {
		expects: `one of ${values.join(', ')}`,
		read(raw) {
			const found = values.find((value) => value === raw);
			return found === undefined
				? refuse(`is ${typeof raw === 'string' ? JSON.stringify(raw) : kindOf(raw)}`)
				: accept(found);
		},
		show: (value) => JSON.stringify(value),
	});
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_UNITS: Readonly<Record<string, number>> = {
	B: 1,
	KiB: 1024,
	MiB: 1024 ** 2,
	GiB: 1024 ** 3,
	TiB: 1024 ** 4,
};

interface Bounds extends Common<number> {
	readonly min: number;
	readonly max: number;
}

/** Milliseconds; the field's name must end in `Ms`. Written `"500ms"`, `"45s"`, `"10m"`, `"24h"`, `"90d"`. */
export function duration(options: Bounds): Field<number> {
	return measured(options, DURATION_UNITS, 'Ms', 'duration');
}

/** Bytes; the field's name must end in `Bytes`. Written `"512B"`, `"64KiB"`, `"1MiB"`, `"2GiB"`. */
export function bytes(options: Bounds): Field<number> {
	return measured(options, SIZE_UNITS, 'Bytes', 'size');
}

function measured(
	options: Bounds,
	units: Readonly<Record<string, number>>,
	unitSuffix: string,
	noun: string,
): Field<number> {
	const { min, max } = options;
	const names = Object.keys(units);
	const pattern = new RegExp(`^(\\d{1,15})(${names.join('|')})$`);
	const show = (value: number) => {
		const unit = names.findLast((name) => value % (units[name] ?? 1) === 0 && value !== 0) ?? names[0] ?? '';
		return `"${value / (units[unit] ?? 1)}${unit}"`;
	};
	return field(options, {
		expects: `a ${noun} from ${show(min)} to ${show(max)}, with its unit (${names.join(', ')})`,
		unitSuffix,
		read(raw) {
			const match = typeof raw === 'string' ? pattern.exec(raw) : null;
			if (match === null)
				return refuse(typeof raw === 'string' ? `is ${JSON.stringify(raw)}` : `is ${kindOf(raw)} without a unit`);
			const read = whole(Number(match[1]) * (units[match[2] ?? ''] ?? Number.NaN), min, max);
			return read.ok ? read : refuse(`is ${match[0]}`);
		},
		show,
	});
}

export interface ListOptions extends Common<readonly string[]> {
	readonly itemsMax?: number;
	readonly pattern?: RegExp;
	readonly expects?: string;
}

/** An array of strings in TOML, comma-separated in the environment. */
export function list(options: ListOptions): Field<readonly string[]> {
	const { itemsMax = 256, pattern, expects = 'a list of strings' } = options;
	return field(options, {
		expects: `${expects} (at most ${itemsMax})`,
		read(raw) {
			const items: unknown =
				typeof raw === 'string'
					? raw
							.split(',')
							.map((item) => item.trim())
							.filter((item) => item !== '')
					: raw;
			if (!Array.isArray(items)) return refuse(`is ${kindOf(raw)}`);
			if (items.length > itemsMax) return refuse(`has ${items.length} items`);
			const values: string[] = [];
			for (const item of items) {
				if (typeof item !== 'string') return refuse(`holds ${kindOf(item)}`);
				if (pattern !== undefined && !pattern.test(item)) return refuse(`holds ${JSON.stringify(item)}`);
				values.push(item);
			}
			return accept(Object.freeze(values));
		},
		show: (value) => `[${value.map((item) => JSON.stringify(item)).join(', ')}]`,
	});
}

function kindOf(raw: unknown): string {
	if (raw === null || raw === undefined) return 'empty';
	if (Array.isArray(raw)) return 'a list';
	if (typeof raw === 'object') return 'a table';
	if (typeof raw === 'number') return `the number ${raw}`;
	return `a ${typeof raw}`;
}
