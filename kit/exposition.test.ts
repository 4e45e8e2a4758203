import { describe, expect, test } from 'vitest';
import { Registry } from './exposition.ts';
import { escapeLabelValue, familyHeader, formatValue, negotiateFormat, seriesPrefix } from './exposition-text.ts';

const REFUSED =
	'# HELP gpuaas_metrics_series_refused_total Series that were not created because their family was full.\n# TYPE gpuaas_metrics_series_refused_total counter\n';

describe('registry', () => {
	test('counters start at 0 and add up', () => {
		const registry = new Registry();
		const tasks = registry.counter({ name: 'tasks_total', help: 'Tasks.' });
		expect(registry.render()).toBe(`${REFUSED}# HELP tasks_total Tasks.\n# TYPE tasks_total counter\ntasks_total 0\n`);
		tasks.of().inc();
		tasks.of().inc(2.5);
		expect(registry.render()).toContain('\ntasks_total 3.5\n');
	});

	test('series of one family stand together, one line each, the same object every time', () => {
		const registry = new Registry();
		const family = registry.gauge({ name: 'temperature_celsius', help: 'x', labelNames: ['node', 'gpu'] });
		expect(family.of('n1', '0')).toBe(family.of('n1', '0'));
		family.of('n1', '0').set(40);
		family.of('n1', '1').set(41);
		family.of('n1', '0').inc(-1);
		expect(
			registry
				.render()
				.endsWith('temperature_celsius{node="n1",gpu="0"} 39\ntemperature_celsius{node="n1",gpu="1"} 41\n'),
		).toBe(true);
		family.remove('n1', '0');
		expect(registry.render()).not.toContain('gpu="0"');
	});

	test('histograms are cumulative and count what is beyond the last bound', () => {
		const registry = new Registry();
		const family = registry.histogram({ name: 'wait_seconds', help: 'x', buckets: [0.1, 1] });
		for (const value of [0.1, 0.5, 1, 7]) family.of().observe(value);
		expect(registry.render().split('\n').slice(4, -1)).toEqual([
			'wait_seconds_bucket{le="0.1"} 1',
			'wait_seconds_bucket{le="1.0"} 3',
			'wait_seconds_bucket{le="+Inf"} 4',
			'wait_seconds_sum 8.6',
			'wait_seconds_count 4',
		]);
	});

	test('collected samples exist only at scrape time', () => {
		const registry = new Registry();
		let nodes = 2;
		registry.collect({ name: 'nodes', help: 'x', type: 'gauge', labelNames: ['state'] }, (emit) =>
			emit(nodes, 'ready'),
		);
		expect(registry.render()).toContain('nodes{state="ready"} 2\n');
		nodes = 3;
		expect(registry.render()).toContain('nodes{state="ready"} 3\n');
	});

	test('a family takes no more than its limit, and the refusals are counted', () => {
		const registry = new Registry();
		const family = registry.counter({ name: 'a_total', help: 'x', labelNames: ['user'], seriesMax: 2 });
		for (let index = 0; index < 5; index += 1) family.of(`u${index}`).inc();
		registry.collect({ name: 'b', help: 'x', type: 'gauge', labelNames: ['user'], seriesMax: 1 }, (emit) => {
			emit(1, 'u1');
			emit(1, 'u2');
		});
		registry.render();
		const page = registry.render();
		expect(page.match(/^a_total\{/gm)).toHaveLength(2);
		expect(page.match(/^b\{/gm)).toHaveLength(1);
		expect(page).toContain('gpuaas_metrics_series_refused_total{family="a_total"} 3\n');
		expect(page).toContain('gpuaas_metrics_series_refused_total{family="b"} 1\n');
		family.remove('u0');
		family.of('late').inc();
		expect(registry.render()).toContain('a_total{user="late"} 1\n');
	});

	test('series stay apart whatever their label values contain', () => {
		const registry = new Registry();
		const family = registry.gauge({ name: 'g', help: 'x', labelNames: ['a', 'b'] });
		family.of('x:', 'y').set(1);
		family.of('x', ':y').set(2);
		family.of('', '1:xy').set(3);
		expect(registry.render().match(/^g\{/gm)).toHaveLength(3);
		expect(() => family.of('x')).toThrow('this family has the labels a, b');
		expect(() => family.of('x', 'y', 'z')).toThrow('this family has the labels a, b');
	});

	test('wrong names are bugs', () => {
		const registry = new Registry();
		expect(() => registry.counter({ name: 'tasks', help: '' })).toThrow('_total');
		expect(() => registry.gauge({ name: 'a-b', help: '' })).toThrow('not a metric name');
		expect(() => registry.gauge({ name: 'a', help: '', labelNames: ['__x'] })).toThrow('not a label name');
		expect(() => registry.histogram({ name: 'h', help: '', buckets: [2, 1] })).toThrow('rise');
		registry.gauge({ name: 'twice', help: '' });
		expect(() => registry.gauge({ name: 'twice', help: '' })).toThrow('already registered');
	});

	test('OpenMetrics names counters without their suffix and ends the page', () => {
		const registry = new Registry();
		registry.counter({ name: 'tasks_total', help: 'say "hi"' }).of().inc();
		const page = registry.render('openmetrics');
		expect(page).toContain('# HELP tasks say \\"hi\\"\n# TYPE tasks counter\ntasks_total 1\n');
		expect(page.endsWith('\n# EOF\n')).toBe(true);
	});
});

describe('text', () => {
	test('escaping', () => {
		expect(escapeLabelValue('a"b\\c\nd')).toBe('a\\"b\\\\c\\nd');
		expect(escapeLabelValue('plain ü')).toBe('plain ü');
		expect(familyHeader('m', 'gauge', 'a\\b\nc"d')).toBe('# HELP m a\\\\b\\nc"d\n# TYPE m gauge\n');
		expect(seriesPrefix('m', ['l'], ['"'])).toBe('m{l="\\""} ');
	});

	test('values as Go reads them', () => {
		expect([1, 0.5, 1e21, -0, Number.NaN, Infinity, -Infinity].map(formatValue)).toEqual([
			'1',
			'0.5',
			'1e+21',
			'0',
			'NaN',
			'+Inf',
			'-Inf',
		]);
	});

	test.each([
		[undefined, 'text'],
		['*/*', 'text'],
		['text/plain', 'text'],
		['application/openmetrics-text', 'openmetrics'],
		['application/openmetrics-text;version=0.0.1', 'text'],
		// What Prometheus 2 and 3 send.
		[
			'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
			'openmetrics',
		],
		['text/plain;q=1,application/openmetrics-text;version=1.0.0;q=0.5', 'text'],
	] as const)('Accept: %s', (accept, format) => {
		expect(negotiateFormat(accept)).toBe(format);
	});
});
