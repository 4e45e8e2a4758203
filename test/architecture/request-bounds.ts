import {
	type DescField,
	type DescMessage,
	type DescMethod,
	getOption,
	hasOption,
	isFieldSet,
	ScalarType,
} from '@bufbuild/protobuf';
import {
	BytesRulesSchema,
	type FieldRules,
	field as fieldRules,
	MapRulesSchema,
	RepeatedRulesSchema,
	StringRulesSchema,
} from '../../proto/gen/buf/validate/validate_pb.ts';

/** Fields of requests that a caller could fill without end: no length, item or pair limit in their validation rules. */
export function unboundedFields(methods: readonly Pick<DescMethod, 'input'>[]): string[] {
	const found = new Set<string>();
	const seen = new Set<string>();
	const visit = (message: DescMessage): void => {
		if (seen.has(message.typeName) || message.file.proto.package.startsWith('google.')) return;
		seen.add(message.typeName);
		for (const field of message.fields) {
			if (!isBounded(field)) found.add(`${message.typeName}.${field.name}`);
			if (field.message !== undefined) visit(field.message);
		}
	};
	for (const method of methods) visit(method.input);
	return [...found].sort();
}

function isBounded(field: DescField): boolean {
	const rules = hasOption(field, fieldRules) ? getOption(field, fieldRules) : undefined;
	if (field.fieldKind === 'map') {
		if (rules?.type.case !== 'map' || !isFieldSet(rules.type.value, MapRulesSchema.field.maxPairs)) return false;
		const { keys, values } = rules.type.value;
		return (
			limitsLength(ScalarType.STRING, keys) &&
			limitsLength(field.mapKind === 'scalar' ? field.scalar : undefined, values)
		);
	}
	if (field.fieldKind === 'list') {
		if (rules?.type.case !== 'repeated' || !isFieldSet(rules.type.value, RepeatedRulesSchema.field.maxItems))
			return false;
		return limitsLength(field.listKind === 'scalar' ? field.scalar : undefined, rules.type.value.items);
	}
	return limitsLength(field.fieldKind === 'scalar' ? field.scalar : undefined, rules);
}

/** A pattern bounds a text when it repeats nothing without a limit. */
function limitsLength(scalar: ScalarType | undefined, rules: FieldRules | undefined): boolean {
	if (scalar === ScalarType.STRING) {
		if (rules?.type.case !== 'string') return false;
		const { value } = rules.type;
		const { maxLen, maxBytes, len, lenBytes, const: constant, pattern } = StringRulesSchema.field;
		if ([maxLen, maxBytes, len, lenBytes, constant].some((rule) => isFieldSet(value, rule))) return true;
		if (value.in.length > 0 || value.wellKnown.case === 'uuid') return true;
		return isFieldSet(value, pattern) && /^\^.*\$$/.test(value.pattern) && !/[^\\][*+]|,\}/.test(value.pattern);
	}
	if (scalar === ScalarType.BYTES) {
		if (rules?.type.case !== 'bytes') return false;
		const { value } = rules.type;
		const { maxLen, len, const: constant } = BytesRulesSchema.field;
		return [maxLen, len, constant].some((rule) => isFieldSet(value, rule)) || value.in.length > 0;
	}
	return true;
}
