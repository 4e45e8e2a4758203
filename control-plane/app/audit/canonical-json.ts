import { assert } from '../../../kit/assert.ts';

/**
 * Canonical JSON (RFC 8785): one sequence of bytes for one value, so that a hash over it means the value. Names sort by
 * UTF-16 code units, which is what JavaScript compares strings by; numbers and strings print as ECMAScript prints them.
 */
export type CanonicalValue =
	| string
	| number
	| boolean
	| null
	| readonly CanonicalValue[]
	| { readonly [name: string]: CanonicalValue };

export function canonicalJson(value: CanonicalValue): string {
	switch (typeof value) {
		case 'number':
			assert(Number.isFinite(value), 'JSON has no infinity and no NaN');
			return JSON.stringify(value);
		case 'string':
			// I-JSON forbids lone surrogates; what a client sent may hold one, and must not stop the record.
			return JSON.stringify(value.toWellFormed());
		case 'boolean':
			return value ? 'true' : 'false';
		default:
	}
	if (value === null) return 'null';
	if (isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
	const names = Object.keys(value).sort();
	const members: string[] = [];
	for (const name of names) {
		const member = value[name];
		assert(member !== undefined, `the member ${name} is undefined`);
		members.push(`${canonicalJson(name)}:${canonicalJson(member)}`);
	}
	return `{${members.join(',')}}`;
}

function isArray(value: object): value is readonly CanonicalValue[] {
	return Array.isArray(value);
}
