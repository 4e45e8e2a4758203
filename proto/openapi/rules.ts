import { type DescField, type DescOneof, getOption, hasOption, toJson } from '@bufbuild/protobuf';
import { FieldRulesSchema, field as fieldOption, oneof as oneofOption } from '../gen/buf/validate/validate_pb.ts';
import { compact, type JsonObject } from './json.ts';

/** Validation rules as JSON, by their names in buf/validate: `{ string: { minLen: '1' } }`. Only what is set. */
export type Rules = Readonly<Record<string, unknown>>;

export function rulesOf(field: DescField): Rules {
	return hasOption(field, fieldOption) ? (toJson(FieldRulesSchema, getOption(field, fieldOption)) as Rules) : {};
}

export function isRequiredOneof(oneof: DescOneof): boolean {
	return hasOption(oneof, oneofOption) && getOption(oneof, oneofOption).required;
}

/** Whether leaving the field out (its zero value) is refused. */
export function isRequired(field: DescField, rules: Rules): boolean {
	const {
		string,
		bytes,
		repeated,
		map,
		enum: enumeration,
	} = rules as Record<string, Record<string, unknown> | undefined>;
	const lengths = [string?.minLen, string?.len, bytes?.minLen, bytes?.len, repeated?.minItems, map?.minPairs];
	const excludesZero = field.enum !== undefined && Array.isArray(enumeration?.notIn) && enumeration.notIn.includes(0);
	return rules.required === true || excludesZero || lengths.some((length) => Number(length ?? 0) > 0);
}

/** JSON Schema keywords for a scalar, an enum, a duration, a list or a map. */
export function keywordsOf(kind: string, rules: Rules): JsonObject {
	const own = (rules[kind] ?? {}) as Rules;
	if (kind === 'string') return stringKeywords(own);
	if (kind === 'bytes') return bytesKeywords(own);
	if (kind === 'repeated')
		return compact({
			minItems: number(own.minItems),
			maxItems: number(own.maxItems),
			uniqueItems: own.unique === true ? true : undefined,
		});
	if (kind === 'map') return compact({ minProperties: number(own.minPairs), maxProperties: number(own.maxPairs) });
	if (['int32', 'uint32', 'sint32', 'fixed32', 'sfixed32', 'float', 'double'].includes(kind))
		return numberKeywords(own);
	// Written as strings, which JSON Schema can't compare: the bounds are there to be read.
	return compact({ 'x-minimum': text(own.gte ?? own.gt), 'x-maximum': text(own.lte ?? own.lt) });
}

function stringKeywords(rules: Rules): JsonObject {
	const formats: Readonly<Record<string, string>> = {
		uuid: 'uuid',
		email: 'email',
		hostname: 'hostname',
		ip: 'ip',
		ipv4: 'ipv4',
		ipv6: 'ipv6',
		uri: 'uri',
	};
	const length = number(rules.len);
	return compact({
		minLength: length ?? number(rules.minLen),
		// A byte limit is also a limit of characters.
		maxLength: length ?? number(rules.maxLen) ?? number(rules.maxBytes) ?? number(rules.lenBytes),
		pattern: text(rules.pattern),
		const: text(rules.const),
		enum: Array.isArray(rules.in) ? rules.in.map(String) : undefined,
		format: Object.keys(formats).find((format) => rules[format] === true),
		'x-max-bytes': number(rules.maxBytes),
	});
}

function bytesKeywords(rules: Rules): JsonObject {
	const base64Length = (bytes: number | undefined) => (bytes === undefined ? undefined : Math.ceil(bytes / 3) * 4);
	const length = number(rules.len);
	return compact({
		maxLength: base64Length(length ?? number(rules.maxLen)),
		'x-min-bytes': length ?? number(rules.minLen),
	});
}

function numberKeywords(rules: Rules): JsonObject {
	return compact({
		minimum: number(rules.gte),
		exclusiveMinimum: number(rules.gt),
		maximum: number(rules.lte),
		exclusiveMaximum: number(rules.lt),
		const: number(rules.const),
		enum: Array.isArray(rules.in) ? rules.in.map(Number) : undefined,
	});
}

/** 64-bit values are strings in protobuf's JSON. */
function number(value: unknown): number | undefined {
	return value === undefined ? undefined : Number(value);
}

function text(value: unknown): string | undefined {
	return value === undefined ? undefined : String(value);
}
