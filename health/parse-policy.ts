import { GpuaasError } from '../kit/error.ts';
import { DocumentReader, required } from './document-reader.ts';
import { FACT_KINDS } from './fact-kinds.ts';
import { optional, parseFactRule, parseOutcome, parseRateRule } from './parse-outcome.ts';
import { ENGINE_CLASSES, type FactRule, type Outcome, type Policy, type Thresholds, type XidClass } from './policy.ts';

/**
 * Checks a policy document and makes it a policy, for one fleet or for none. A policy that is wrong in any place is not
 * used at all. Throws HEALTH_POLICY_INVALID with the path of what is wrong, HEALTH_FLEET_UNKNOWN.
 */
const XID_MAX = 99_999;
/** Codes that NVIDIA's catalogue numbers: each has exactly one rule. */
export const XIDS_LISTED = 172;
const RECOVERY_ACTIONS = 5;
const YEAR_MS = 366 * 86_400_000;
const BOUNDS: Readonly<Record<keyof Thresholds, readonly [number, number]>> = {
	periodMs: [1000, 3_600_000],
	slowEvery: [1, 100],
	silencePeriods: [1, 100],
	burstMs: [1000, 3_600_000],
	noteMs: [1000, YEAR_MS],
	resetAgainMs: [1000, YEAR_MS],
	rebootsMax: [1, 100],
	rebootsWithinMs: [1000, YEAR_MS],
	tenants: [2, 16],
	tenantsWithinMs: [1000, YEAR_MS],
	loadRatio: [0.01, 1],
	loadCleanMs: [1000, YEAR_MS],
};
const FIELDS = ['version', 'source', 'thresholds', 'xidClasses', 'recoveryActions', 'facts', 'rates', 'fleets'];

export function parsePolicy(document: unknown, fleet = ''): Policy {
	const root = new DocumentReader(document);
	const fields = root.fields(FIELDS);
	const field = (key: string) => required(root, fields, key);
	const classes = xidClassesOf(field('xidClasses'));
	const thresholds = thresholdsOf(field('thresholds'), undefined);
	const overrides = fleetsOf(field('fleets'), classes.byName, thresholds);
	const override = overrides.get(fleet);
	if (fleet !== '' && override === undefined) throw unknownFleet(fleet, [...overrides.keys()]);
	const version = field('version').text();
	if (version === '') throw field('version').fail('is empty: verdicts name it');
	return Object.freeze({
		version: fleet === '' ? version : `${version}+${fleet}`,
		source: field('source').text(),
		fleet,
		thresholds: override?.thresholds ?? thresholds,
		xidClasses: classes.byName,
		xids: new Map([...classes.byCode, ...(override?.xids ?? [])]),
		recoveryActions: recoveryActionsOf(field('recoveryActions')),
		facts: factsOf(field('facts')),
		rates: ratesOf(field('rates')),
	});
}

function xidClassesOf(reader: DocumentReader) {
	const byName = new Map<string, XidClass>();
	const byCode = new Map<number, string>();
	for (const [name, one] of reader.fields()) {
		const fields = one.fields();
		const more = ['rank', 'codes', 'mildWhere'];
		const rank = required(one, fields, 'rank').whole(1, 1000);
		byName.set(name, { ...parseOutcome(one, more), rank, ...optional(fields, 'mildWhere', (field) => field.text()) });
		for (const item of required(one, fields, 'codes').items())
			for (const code of codesOf(item)) {
				const other = byCode.get(code);
				if (other !== undefined) throw item.fail(`has XID ${code}, which the class ${other} has too`);
				byCode.set(code, name);
			}
	}
	for (const name of ENGINE_CLASSES)
		if (!byName.has(name)) throw reader.fail(`lacks the class ${JSON.stringify(name)}`);
	const missing = Array.from({ length: XIDS_LISTED }, (_, index) => index + 1).filter((code) => !byCode.has(code));
	if (missing.length > 0) throw reader.fail(`has no rule for XID ${missing.slice(0, 8).join(', ')}`);
	if (byName.get('note')?.state !== 'HEALTHY') throw reader.fail('must have "note" as HEALTHY: it holds no state');
	if (byName.get('silence')?.state !== 'UNKNOWN')
		throw reader.fail('must have "silence" as UNKNOWN: nothing is known of what is not heard');
	return { byName, byCode };
}

/** 79, or a range: "39-41". */
function codesOf(reader: DocumentReader): readonly number[] {
	if (typeof reader.value === 'number') return [reader.whole(0, XID_MAX)];
	const [, from, to] = /^(\d{1,5})-(\d{1,5})$/.exec(reader.text()) ?? [];
	const first = Number(from ?? Number.NaN);
	const count = Number(to ?? Number.NaN) - first + 1;
	if (!(count >= 1 && count <= XID_MAX)) throw reader.fail('is neither a code nor a range such as "39-41"');
	return Array.from({ length: count }, (_, index) => first + index);
}

function thresholdsOf(reader: DocumentReader, base: Thresholds | undefined): Thresholds {
	const keys = Object.keys(BOUNDS) as (keyof Thresholds)[];
	const fields = reader.fields(keys);
	const entries = keys.map((key) => {
		if (base !== undefined && !fields.has(key)) return [key, base[key]];
		const [min, max] = BOUNDS[key];
		const field = required(reader, fields, key);
		return [key, key === 'loadRatio' ? field.number(min, max) : field.whole(min, max)];
	});
	return Object.freeze(Object.fromEntries(entries)) as Thresholds;
}

function fleetsOf(reader: DocumentReader, classes: ReadonlyMap<string, XidClass>, thresholds: Thresholds) {
	return new Map(
		[...reader.fields()].map(([name, one]) => {
			const fields = one.fields(['xids', 'thresholds']);
			const xids = [...(fields.get('xids')?.fields() ?? [])].map(([code, field]) => {
				if (!/^\d{1,5}$/.test(code)) throw field.fail('is not under the number of an XID');
				return [Number(code), field.oneOf([...classes.keys()])] as const;
			});
			const own = fields.get('thresholds');
			return [name, { xids, thresholds: own === undefined ? thresholds : thresholdsOf(own, thresholds) }] as const;
		}),
	);
}

function recoveryActionsOf(reader: DocumentReader): ReadonlyMap<number, Outcome> {
	const actions = new Map<number, Outcome>();
	for (const [key, one] of reader.fields()) {
		if (!/^[1-9]\d{0,2}$/.test(key)) throw one.fail('is not under a number from 1');
		const outcome = parseOutcome(one);
		if (outcome.state !== 'UNHEALTHY') throw one.fail('must be UNHEALTHY: the driver asks for something');
		actions.set(Number(key), outcome);
	}
	for (let action = 1; action <= RECOVERY_ACTIONS; action++)
		if (!actions.has(action)) throw reader.fail(`has no rule for the driver's recovery action ${action}`);
	return actions;
}

function factsOf(reader: DocumentReader): readonly FactRule[] {
	const seen = new Map<string, string>();
	return reader.items().map((item) => {
		const rule = parseFactRule(item, FACT_KINDS);
		for (const after of rule.after ?? ['']) {
			const measure = rule.expected === undefined ? (rule.atLeast ?? '') : 'expected';
			const key = [rule.fact, rule.code ?? '*', after, measure].join(' ');
			const other = seen.get(key);
			if (other !== undefined) throw item.fail(`says what ${other} says already: only one could count`);
			seen.set(key, rule.check);
		}
		return rule;
	});
}

function ratesOf(reader: DocumentReader) {
	const seen = new Set<string>();
	return reader.items().map((item) => {
		const rule = parseRateRule(item);
		if (seen.has(rule.check)) throw item.fail(`is a second rule for the check ${rule.check}`);
		seen.add(rule.check);
		return rule;
	});
}

function unknownFleet(fleet: string, known: readonly string[]): GpuaasError {
	const list = known.length === 0 ? 'it names none' : `it names ${known.join(', ')}`;
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'HEALTH_FLEET_UNKNOWN',
		message: `the health policy has no fleet ${JSON.stringify(fleet)}: ${list}; leave the fleet out, or add it under "fleets"`,
	});
}
