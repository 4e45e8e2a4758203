import {
	type AnyDesc,
	type DescEnum,
	type DescField,
	type DescFile,
	type DescMessage,
	getOption,
	hasOption,
	ScalarType,
} from '@bufbuild/protobuf';
import { DataClass, data_class as dataClassOption } from '../gen/gpuaas/common/v1/policy_pb.ts';
import { compact, type Json, type JsonObject } from './json.ts';
import { isRequired, isRequiredOneof, keywordsOf, type Rules, rulesOf } from './rules.ts';

/** The leading comment of an element, or the empty string. */
export type CommentOf = (desc: Exclude<AnyDesc, DescFile>) => string;

/** protobuf.dev/programming-guides/json: how well-known types look in JSON. */
const WELL_KNOWN: Readonly<Record<string, JsonObject>> = {
	'google.protobuf.Timestamp': { type: 'string', format: 'date-time' },
	'google.protobuf.Duration': { type: 'string', pattern: '^-?[0-9]+(\\.[0-9]{1,9})?s$', examples: ['30s'] },
	'google.protobuf.Empty': { type: 'object' },
	'google.protobuf.Struct': { type: 'object' },
	'google.protobuf.Value': {},
	'google.protobuf.FieldMask': { type: 'string' },
	'google.protobuf.Any': { type: 'object', required: ['@type'], properties: { '@type': { type: 'string' } } },
};

/** Collects the messages and enums that a document refers to, and describes each once. */
export class Schemas {
	readonly #commentOf: CommentOf;
	readonly #pending: (DescMessage | DescEnum)[] = [];
	readonly #known = new Set<string>();

	constructor(commentOf: CommentOf) {
		this.#commentOf = commentOf;
	}

	reference(desc: DescMessage | DescEnum): JsonObject {
		if (!this.#known.has(desc.typeName)) {
			this.#known.add(desc.typeName);
			this.#pending.push(desc);
		}
		return { $ref: `#/components/schemas/${desc.typeName}` };
	}

	/** By name, with everything that they refer to in turn. */
	build(): JsonObject {
		const built: Record<string, Json> = {};
		for (let desc = this.#pending.shift(); desc !== undefined; desc = this.#pending.shift()) {
			built[desc.typeName] = desc.kind === 'message' ? this.#message(desc) : this.#enum(desc);
		}
		return Object.fromEntries(Object.entries(built).sort(([a], [b]) => (a < b ? -1 : 1)));
	}

	#message(message: DescMessage): JsonObject {
		const properties: Record<string, Json> = {};
		const required: string[] = [];
		for (const field of message.fields) {
			const rules = rulesOf(field);
			properties[field.jsonName] = this.#field(field, rules);
			if (field.oneof === undefined && isRequired(field, rules)) required.push(field.jsonName);
		}
		const oneofs = message.oneofs.map((oneof) => ({
			name: oneof.name,
			required: isRequiredOneof(oneof),
			fields: oneof.fields.map((field) => field.jsonName),
		}));
		return compact({
			type: 'object',
			description: this.#commentOf(message) || undefined,
			properties,
			required: required.length > 0 ? required : undefined,
			'x-oneofs': oneofs.length > 0 ? oneofs : undefined,
		});
	}

	#enum(desc: DescEnum): JsonObject {
		const notes = desc.values
			.filter((value) => this.#commentOf(value) !== '')
			.map((value) => `${value.name}: ${this.#commentOf(value)}`);
		const description = [this.#commentOf(desc), ...notes].filter((text) => text !== '').join('\n');
		return compact({
			type: 'string',
			description: description || undefined,
			enum: desc.values.map((value) => value.name),
		});
	}

	#field(field: DescField, rules: Rules): JsonObject {
		const dataClass = hasOption(field, dataClassOption) ? getOption(field, dataClassOption) : DataClass.UNSPECIFIED;
		const classes = Object.keys(DataClass) as (keyof typeof DataClass)[];
		const name = classes.find((each) => DataClass[each] === dataClass);
		return compact({
			...this.#shape(field, rules),
			description: this.#commentOf(field) || undefined,
			'x-data-class': dataClass === DataClass.UNSPECIFIED ? undefined : name?.toLowerCase(),
		});
	}

	#shape(field: DescField, rules: Rules): JsonObject {
		if (field.fieldKind === 'list') {
			const { items } = (rules.repeated ?? {}) as { items?: Rules };
			return { type: 'array', ...keywordsOf('repeated', rules), items: this.#value(field, items ?? {}) };
		}
		if (field.fieldKind === 'map') {
			const { keys, values } = (rules.map ?? {}) as { keys?: Rules; values?: Rules };
			const names = keywordsOf('string', keys ?? {});
			return compact({
				type: 'object',
				...keywordsOf('map', rules),
				propertyNames: Object.keys(names).length > 0 ? names : undefined,
				additionalProperties: this.#value(field, values ?? {}),
			});
		}
		return this.#value(field, rules);
	}

	/** One value of a field: of a singular one, of a list's item, of a map's value. */
	#value(field: DescField, rules: Rules): JsonObject {
		if (field.message !== undefined) {
			const wellKnown = WELL_KNOWN[field.message.typeName];
			if (wellKnown === undefined) return this.reference(field.message);
			return { ...wellKnown, ...keywordsOf('duration', rules) };
		}
		if (field.enum !== undefined) return this.reference(field.enum);
		return scalar(field.scalar ?? ScalarType.STRING, rules);
	}
}

function scalar(type: ScalarType, rules: Rules): JsonObject {
	const kind = ScalarType[type].toLowerCase();
	const keywords = keywordsOf(kind, rules);
	switch (type) {
		case ScalarType.STRING:
			return { type: 'string', ...keywords };
		case ScalarType.BYTES:
			return { type: 'string', contentEncoding: 'base64', ...keywords };
		case ScalarType.BOOL:
			return { type: 'boolean' };
		case ScalarType.FLOAT:
		case ScalarType.DOUBLE:
			return { type: 'number', ...keywords };
		case ScalarType.INT64:
		case ScalarType.SINT64:
		case ScalarType.SFIXED64:
			return { type: 'string', pattern: '^-?[0-9]{1,19}$', format: 'int64', ...keywords };
		case ScalarType.UINT64:
		case ScalarType.FIXED64:
			return { type: 'string', pattern: '^[0-9]{1,20}$', format: 'uint64', ...keywords };
		case ScalarType.UINT32:
		case ScalarType.FIXED32:
			return { type: 'integer', format: 'uint32', minimum: 0, ...keywords };
		default:
			return { type: 'integer', format: 'int32', ...keywords };
	}
}
