import { type DescField, type DescMessage, getOption, hasOption, type Message, ScalarType } from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { DataClass, data_class as dataClassOption } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { AuditEvent } from './event.ts';

/**
 * What was asked for, in the record of a change: taken from the request by the contract's `data_class`, so that no use
 * case can show what it shouldn't. Public and internal fields stand in clear, personal ones become commitments, secret
 * ones are only named. Bounded: long values are cut and say so, and so is the number of fields.
 */
const FIELDS_MAX = 32;
const VALUE_CHARACTERS_MAX = 256;
const DEPTH_MAX = 4;

interface Facts {
	readonly detail: Record<string, string>;
	readonly personal: Record<string, string>;
}

/** The event with the request's own facts under `request.`; what the event says itself wins. */
export function withRequestFacts(event: AuditEvent, desc: DescMessage, request: Message): AuditEvent {
	const facts: Facts = { detail: {}, personal: {} };
	collect(reflect(desc, request), 'request', facts, 0);
	return { ...event, detail: { ...facts.detail, ...event.detail }, personal: { ...facts.personal, ...event.personal } };
}

/** Reading an option decodes it anew, which costs more than the rest of a record. */
const classes = new WeakMap<DescField, DataClass>();

function dataClassOf(field: DescField): DataClass {
	let known = classes.get(field);
	if (known === undefined) {
		known = hasOption(field, dataClassOption) ? getOption(field, dataClassOption) : DataClass.INTERNAL;
		classes.set(field, known);
	}
	return known;
}

function collect(message: ReflectMessage, path: string, facts: Facts, depth: number): void {
	for (const field of message.fields) {
		if (!message.isSet(field) || Object.keys(facts.detail).length >= FIELDS_MAX) continue;
		const name = `${path}.${field.name}`;
		const dataClass = dataClassOf(field);
		if (dataClass === DataClass.SECRET) facts.detail[name] = '[secret]';
		else if (dataClass === DataClass.PERSONAL) facts.personal[name] = text(message, field);
		else if (isManyMessages(field)) facts.detail[name] = `[${countOf(message, field)} items]`;
		else if (field.fieldKind === 'message' && !isWellKnown(field)) {
			if (depth < DEPTH_MAX) collect(message.get(field), name, facts, depth + 1);
		} else if (!(field.fieldKind === 'scalar' && field.scalar === ScalarType.BYTES)) {
			facts.detail[name] = text(message, field);
		}
	}
}

/** Their fields have classes of their own, so they are counted, not shown. */
function isManyMessages(field: DescField): boolean {
	return (
		(field.fieldKind === 'list' && field.listKind === 'message') ||
		(field.fieldKind === 'map' && field.mapKind === 'message')
	);
}

function countOf(message: ReflectMessage, field: DescField): number {
	if (field.fieldKind === 'list' || field.fieldKind === 'map') return message.get(field).size;
	return 1;
}

function isWellKnown(field: DescField): boolean {
	return field.message?.typeName.startsWith('google.protobuf.') ?? false;
}

function text(message: ReflectMessage, field: DescField): string {
	const value = plainOf(message, field);
	const plain = typeof value === 'string' ? value : JSON.stringify(value, bigintsAsText);
	if (plain.length <= VALUE_CHARACTERS_MAX) return plain;
	return `${plain.slice(0, VALUE_CHARACTERS_MAX)}[${plain.length - VALUE_CHARACTERS_MAX} more]`;
}

/** Lists, maps and messages come wrapped by reflection. */
function plainOf(message: ReflectMessage, field: DescField): unknown {
	if (field.fieldKind === 'list') return [...message.get(field)];
	if (field.fieldKind === 'map') return Object.fromEntries(message.get(field));
	if (field.fieldKind === 'message') return message.get(field).message;
	return message.get(field);
}

function bigintsAsText(_key: string, value: unknown): unknown {
	return typeof value === 'bigint' ? String(value) : value;
}
