import { type DocumentReader, type Fields, required } from './document-reader.ts';
import type { FactRule, Outcome, RateRule } from './policy.ts';
import { ACTIONS, CLEARINGS, type HealthAction, SEVERITIES, STATES } from './verdict.ts';

/** The parts of a policy that say what something means. */
const OUTCOME_FIELDS = ['state', 'severity', 'actions', 'clears', 'schedulable', 'worsens'];
const MILD_FIELDS = ['mildWhere'];
const FACT_FIELDS = [
	'check',
	'fact',
	'code',
	'after',
	'atLeast',
	'expected',
	'well',
	'endedBy',
	'repeat',
	...MILD_FIELDS,
];
const RATE_FIELDS = ['check', 'part', 'key', 'max', 'windowMs'];
const YEAR_MS = 366 * 86_400_000;

/** `more`: fields that the caller reads itself. */
export function parseOutcome(reader: DocumentReader, more: readonly string[] = []): Outcome {
	const fields = reader.fields([...OUTCOME_FIELDS, ...more]);
	const state = required(reader, fields, 'state').oneOf(STATES);
	const actions = actionsOf(required(reader, fields, 'actions'), state === 'UNHEALTHY');
	const clears = required(reader, fields, 'clears')
		.items()
		.map((item) => item.oneOf(CLEARINGS));
	const worsens = fields.get('worsens');
	return Object.freeze({
		state,
		severity: required(reader, fields, 'severity').oneOf(SEVERITIES),
		actions,
		clears,
		...optional(fields, 'schedulable', (field) => field.flag()),
		...(worsens === undefined ? {} : { worsens: worsensOf(worsens) }),
	});
}

function worsensOf(reader: DocumentReader): NonNullable<Outcome['worsens']> {
	const fields = reader.fields(['afterMs', 'actions']);
	const afterMs = required(reader, fields, 'afterMs').whole(1, YEAR_MS);
	return { afterMs, actions: actionsOf(required(reader, fields, 'actions'), true) };
}

/** Something unhealthy that asks for nothing would be out of service for ever. */
function actionsOf(reader: DocumentReader, mustAct: boolean): readonly HealthAction[] {
	const actions = reader.items().map((item) => item.oneOf(ACTIONS));
	if (actions.length === 0) throw reader.fail('is empty; where nothing is to be done, write ["NONE"]');
	if (mustAct && actions.every((action) => action === 'NONE'))
		throw reader.fail('asks for nothing although the state is UNHEALTHY: nobody would ever bring it back');
	return actions;
}

export function parseFactRule(reader: DocumentReader, facts: readonly string[]): FactRule {
	const fields = reader.fields([...OUTCOME_FIELDS, ...FACT_FIELDS]);
	const numbers = (field: DocumentReader) => field.items().map((item) => item.number(0));
	const repeat = fields.get('repeat');
	return Object.freeze({
		...parseOutcome(reader, FACT_FIELDS),
		check: required(reader, fields, 'check').text(),
		fact: required(reader, fields, 'fact').oneOf(facts),
		...optional(fields, 'code', (field) => field.text()),
		...optional(fields, 'after', numbers),
		...optional(fields, 'atLeast', (field) => field.number(0)),
		...optional(fields, 'expected', expectedOf),
		...optional(fields, 'well', numbers),
		...optional(fields, 'endedBy', (field) => field.items().map((item) => item.oneOf(facts))),
		...optional(fields, 'mildWhere', (field) => field.text()),
		...(repeat === undefined ? {} : { repeat: repeatOf(repeat) }),
	});
}

function expectedOf(reader: DocumentReader): NonNullable<FactRule['expected']> {
	return Object.fromEntries([...reader.fields()].map(([pattern, field]) => [pattern, field.number(0)]));
}

function repeatOf(reader: DocumentReader): NonNullable<FactRule['repeat']> {
	const fields = reader.fields(['count', 'withinMs']);
	return {
		count: required(reader, fields, 'count').whole(2, 1000),
		withinMs: required(reader, fields, 'withinMs').whole(1, YEAR_MS),
	};
}

export function parseRateRule(reader: DocumentReader): RateRule {
	const fields = reader.fields([...OUTCOME_FIELDS, ...RATE_FIELDS]);
	return Object.freeze({
		...parseOutcome(reader, RATE_FIELDS),
		check: required(reader, fields, 'check').text(),
		part: required(reader, fields, 'part').oneOf(['node', 'gpu', 'nvlink', 'nic'] as const),
		key: required(reader, fields, 'key').text(),
		max: required(reader, fields, 'max').number(0),
		windowMs: required(reader, fields, 'windowMs').whole(1, YEAR_MS),
	});
}

export function optional<K extends string, T>(
	fields: Fields,
	key: K,
	read: (field: DocumentReader) => T,
): { readonly [P in K]?: T } {
	const field = fields.get(key);
	return (field === undefined ? {} : { [key]: read(field) }) as { readonly [P in K]?: T };
}
