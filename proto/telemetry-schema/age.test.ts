import { expect, it } from 'vitest';
import { ageSecondsOf, hasAges, isAge, laterBy, withoutOld } from './age.ts';
import { gauge } from './metric.ts';
import { CURRENT_SCHEMA } from './schemas.ts';

const asOf = { ageKey: 'age', exportedForSeconds: 300 };
const TABLE = [
	gauge('count', ['now', 'gpuaas_now'], 's', 'h'),
	gauge('celsius', ['warm', 'gpuaas_warm_celsius'], 's', 'h', { asOf }),
	gauge('seconds', ['age', 'gpuaas_age_seconds'], 's', 'h'),
];
const row = (...values: number[]) => Float64Array.from(values);

it('a value stands for now until it is too old, and where its age is not known it does not', () => {
	for (const fresh of [row(1, 34, 0), row(1, 34, 300), row(1, Number.NaN, 900)])
		expect(withoutOld(TABLE, fresh)).toBe(fresh);
	const old = row(1, 34, 300.1);
	expect(withoutOld(TABLE, old)).toEqual(row(1, Number.NaN, 300.1));
	expect(old).toEqual(row(1, 34, 300.1));
	expect(withoutOld(TABLE, row(1, 34, Number.NaN))).toEqual(row(1, Number.NaN, Number.NaN));
});

it('only what has an age of its own gets older, and says how old it is', () => {
	expect(laterBy(TABLE, row(1, 34, 20), 45)).toEqual(row(1, 34, 65));
	const values = row(1, 34, 20);
	expect(laterBy(TABLE, values, 0)).toBe(values);
	expect(laterBy(TABLE.slice(0, 1), row(1), 45)).toEqual(row(1));
	expect([0, 1, 2].map((index) => ageSecondsOf(TABLE, values, index))).toEqual([undefined, 20, undefined]);
	expect(ageSecondsOf(TABLE, row(1, 34, Number.NaN), 1)).toBeUndefined();
	expect([0, 1, 2].map((index) => isAge(TABLE, index))).toEqual([false, false, true]);
	expect([hasAges(TABLE), hasAges(TABLE.slice(0, 1))]).toEqual([true, false]);
});

it('in the tables every age is a value in seconds of the same row, and what SMART says has one', () => {
	for (const metrics of Object.values(CURRENT_SCHEMA))
		for (const { key, asOf: { ageKey } = {} } of metrics)
			if (ageKey !== undefined)
				expect(
					metrics.find((one) => one.key === ageKey),
					key,
				).toMatchObject({ unit: 'seconds' });
	const read = CURRENT_SCHEMA.disk.filter(({ source }) => /SMART|smartctl|ATA|SAS/.test(source));
	expect(read.length).toBeGreaterThan(8);
	for (const { key, asOf: of } of read) expect(of, key).toBeDefined();
});
