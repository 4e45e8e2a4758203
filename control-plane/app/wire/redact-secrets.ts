import { type DescField, type DescMessage, getOption, hasOption, type Message, ScalarType } from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { DataClass, data_class as dataClassOption } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';

/**
 * Blanks the fields that the contract marks DATA_CLASS_SECRET, in place, at any depth: for views of a thing that keeps
 * its secrets, never for the answer that gives a secret out once (a join token). Map keys and the number of values stay,
 * so that a reader sees that something was set. What there is to blank is worked out once per message type.
 */
export const REDACTED = '[redacted]';

interface Plan {
	readonly secrets: DescField[];
	/** Fields whose messages hold secrets themselves. */
	readonly holders: { readonly field: DescField; readonly plan: Plan }[];
}

const PLANS = new WeakMap<DescMessage, Plan>();

export function redactSecrets(desc: DescMessage, message: Message): void {
	const plan = planOf(desc);
	if (!isEmpty(plan)) redact(plan, reflect(desc, message));
}

function isEmpty(plan: Plan): boolean {
	return plan.secrets.length === 0 && plan.holders.length === 0;
}

function planOf(desc: DescMessage): Plan {
	const known = PLANS.get(desc);
	if (known !== undefined) return known;
	const plan: Plan = { secrets: [], holders: [] };
	// Before the fields: a type may hold itself.
	PLANS.set(desc, plan);
	for (const field of desc.fields) {
		if (hasOption(field, dataClassOption) && getOption(field, dataClassOption) === DataClass.SECRET) {
			plan.secrets.push(field);
		} else if (field.message !== undefined) {
			const inner = planOf(field.message);
			// One that is still being worked out holds itself; it may yet turn out to hold secrets.
			if (!isEmpty(inner) || isRecursive(desc, field.message)) plan.holders.push({ field, plan: inner });
		}
	}
	return plan;
}

function isRecursive(desc: DescMessage, inner: DescMessage, seen: Set<DescMessage> = new Set()): boolean {
	if (inner === desc) return true;
	if (seen.has(inner)) return false;
	seen.add(inner);
	return inner.fields.some((field) => field.message !== undefined && isRecursive(desc, field.message, seen));
}

function redact(plan: Plan, message: ReflectMessage): void {
	for (const field of plan.secrets) if (message.isSet(field)) blank(message, field);
	for (const { field, plan: inner } of plan.holders) {
		if (!message.isSet(field)) continue;
		for (const held of messagesOf(message, field)) redact(inner, held);
	}
}

function blank(message: ReflectMessage, field: DescField): void {
	if (field.fieldKind === 'map' && field.scalar === ScalarType.STRING) {
		const values = message.get(field);
		for (const key of [...values.keys()]) values.set(key, REDACTED);
	} else if (field.fieldKind === 'list' && field.scalar === ScalarType.STRING) {
		const values = message.get(field);
		for (let index = 0; index < values.size; index++) values.set(index, REDACTED);
	} else if (field.fieldKind === 'scalar' && field.scalar === ScalarType.STRING) {
		message.set(field, REDACTED);
	} else message.clear(field);
}

function messagesOf(message: ReflectMessage, field: DescField): readonly ReflectMessage[] {
	if (field.fieldKind === 'message') return [message.get(field)];
	if (field.fieldKind === 'list' && field.listKind === 'message') return [...message.get(field)] as ReflectMessage[];
	if (field.fieldKind === 'map' && field.mapKind === 'message') {
		return [...message.get(field).values()] as ReflectMessage[];
	}
	return [];
}
