import { readFileSync } from 'node:fs';
import { present } from '../../kit/assert.ts';

/** proto/openapi.json as a client that knows nothing else reads it. */
interface Schema {
	readonly $ref?: string;
	readonly type?: string;
	readonly enum?: readonly unknown[];
	readonly properties?: Readonly<Record<string, Schema>>;
	readonly required?: readonly string[];
	readonly items?: Schema;
	readonly additionalProperties?: Schema;
}

interface Content {
	readonly $ref?: string;
	readonly content?: { readonly 'application/json'?: { readonly schema: Schema } };
}

interface Operation {
	readonly operationId: string;
	readonly requestBody: Content;
	readonly responses: Readonly<Record<string, Content>>;
}

const document = JSON.parse(readFileSync(new URL('../../proto/openapi.json', import.meta.url), 'utf8')) as {
	readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
};

export function operation(operationId: string) {
	for (const [path, methods] of Object.entries(document.paths)) {
		for (const [method, found] of Object.entries(methods)) {
			if (found.operationId !== operationId || method === 'get') continue;
			const required = resolve(schemaOf(found.requestBody)).required ?? [];
			return {
				path,
				method: method.toUpperCase(),
				required,
				answer: schemaOf(found.responses['200']),
				refusal: (status: string) => schemaOf(found.responses[status]),
				/** Nothing but what is required; a requirement that the caller has no value for fails. */
				body: (values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
					Object.fromEntries(required.map((name) => [name, present(values[name], `a value for ${name}`)])),
			};
		}
	}
	throw new Error(`the document has no operation ${operationId}`);
}

/** Where a value is not what its schema says: keys, types, values of enums, all the way down. */
export function misfits(reference: Schema, value: unknown, at = ''): string[] {
	const schema = resolve(reference);
	if (schema.enum !== undefined && !schema.enum.includes(value)) return [`${at}: not one of its values`];
	switch (schema.type) {
		case 'object':
			return isObject(value) ? objectMisfits(schema, value, at) : [`${at}: not an object`];
		case 'array':
			return Array.isArray(value)
				? value.flatMap((item, index) => misfits(schema.items ?? {}, item, `${at}[${index}]`))
				: [`${at}: not a list`];
		case 'integer':
			return Number.isInteger(value) ? [] : [`${at}: not an integer`];
		case undefined:
			return [];
		default:
			return typeof value === schema.type ? [] : [`${at}: not a ${schema.type}`];
	}
}

function objectMisfits(schema: Schema, value: Readonly<Record<string, unknown>>, at: string): string[] {
	const { properties = {}, additionalProperties, required = [] } = schema;
	const missing = required.filter((name) => !(name in value)).map((name) => `${at}.${name}: missing`);
	const wrong = Object.entries(value).flatMap(([name, item]) => {
		const known = properties[name] ?? additionalProperties;
		return known === undefined ? [`${at}.${name}: not in the document`] : misfits(known, item, `${at}.${name}`);
	});
	return [...missing, ...wrong];
}

function schemaOf(content: Content | undefined): Schema {
	const found = content?.$ref === undefined ? content : (lookUp(content.$ref) as Content);
	return present(found?.content?.['application/json'], 'JSON is spoken here').schema;
}

function resolve(schema: Schema): Schema {
	return schema.$ref === undefined ? schema : resolve(lookUp(schema.$ref) as Schema);
}

function lookUp(reference: string): unknown {
	const steps = reference.replace(/^#\//, '').split('/');
	const found = steps.reduce<unknown>((value, step) => (isObject(value) ? value[step] : undefined), document);
	return present(found, `${reference} is in the document`);
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}
