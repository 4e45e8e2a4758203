import { describe, expect, it } from 'vitest';
import type { TelemetryMetric } from './metric.ts';
import { CURRENT_SCHEMA, SCHEMA_NUMBER, schemaOf, type TelemetryPart } from './schemas.ts';

const parts = Object.entries(CURRENT_SCHEMA) as [TelemetryPart, readonly TelemetryMetric[]][];

describe.each(parts)('the table of %s', (_part, metrics) => {
	it('has each key once, and each series once', () => {
		expect(new Set(metrics.map(({ key }) => key)).size).toBe(metrics.length);
		const series = metrics.map(({ name, labels = {} }) => `${name}${JSON.stringify(labels)}`);
		expect(new Set(series).size).toBe(metrics.length);
	});

	it('keeps the positions of one name together, with the same type, help and label names', () => {
		const seen = new Map<string, { readonly metric: TelemetryMetric; readonly at: number }>();
		for (const [at, metric] of metrics.entries()) {
			const former = seen.get(metric.name);
			seen.set(metric.name, { metric, at });
			if (former === undefined) continue;
			expect(former.at, metric.name).toBe(at - 1);
			const shape = ({ type, help, labels = {} }: TelemetryMetric) => ({ type, help, labels: Object.keys(labels) });
			expect(shape(metric)).toEqual(shape(former.metric));
		}
	});

	it('names what it measures as Prometheus wants it', () => {
		for (const { name, type, unit, min, max } of metrics) {
			expect(name).toMatch(/^gpuaas_[a-z0-9_]+$/);
			expect(name.endsWith('_total'), name).toBe(type === 'counter');
			if (unit === 'bytes') expect(name).toMatch(/_bytes(_total)?$/);
			if (unit === 'seconds') expect(name).toMatch(/_seconds(_total)?$/);
			expect(max, name).toBeGreaterThan(min);
		}
	});
});

it('no name means different things in two tables', () => {
	const byName = new Map<string, string>();
	for (const [part, metrics] of parts) {
		for (const { name } of metrics) {
			expect(byName.get(name) ?? part, name).toBe(part);
			byName.set(name, part);
		}
	}
});

it('knows the schema before it, whose host values it begins with, and no other', () => {
	const before = schemaOf(1)?.host ?? [];
	expect(CURRENT_SCHEMA.host.slice(0, before.length)).toEqual(before);
	expect(before).toHaveLength(35);
	expect(schemaOf(1)?.gpu).toEqual([]);
	expect(schemaOf(SCHEMA_NUMBER)).toBe(CURRENT_SCHEMA);
	expect(schemaOf(SCHEMA_NUMBER + 1)).toBeUndefined();
});
