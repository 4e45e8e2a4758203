import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import type { CaseResult } from './calls.ts';
import { EXEMPT } from './exempt.ts';
import { MODES } from './modes.ts';
import { reportOf, summary } from './report.ts';
import { STRANGERS } from './strangers.ts';

/** What `npm run isolation` leaves: evidence that says what it is about, and hides no case that failed. */
const RESULTS: readonly CaseResult[] = [
	{ rpc: 'a.A/GetTask', case: 'get', outcome: 'pass', detail: 'TASK_NOT_FOUND' },
	{ rpc: 'a.A/GetTask', case: 'positive', outcome: 'pass', detail: 'OK' },
	{ rpc: 'a.A/ListTasks', case: 'list', outcome: 'fail', detail: 'it holds the other tenant’s' },
	{ rpc: '', case: 'by a viewer', outcome: 'omitted', detail: 'of the organization itself' },
];

test('counts every case of every mode, names each that failed and each that is left out', async () => {
	const [sqlite, postgres] = [present(MODES[0], 'a mode'), present(MODES[1], 'a mode')];
	const report = await reportOf(
		[
			{ ...sqlite, results: RESULTS.filter(({ outcome }) => outcome === 'pass') },
			{ ...postgres, results: RESULTS },
		],
		0,
	);
	expect(report).toMatchObject({ passed: 4, failed: 1, omitted: 1, at: '1970-01-01T00:00:00.000Z' });
	expect(report.modes.map(({ name, results }) => [name, results.length])).toEqual([
		['sqlite', 2],
		['postgres', 4],
	]);
	const text = summary(report);
	expect(text).toMatch(/^ok {4}sqlite/m);
	expect(text).toMatch(/^FAIL {2}postgres/m);
	expect(text).toContain('postgres: a.A/ListTasks list: it holds the other tenant’s');
	expect(text).toContain('not here: a viewer (of the organization itself)');
});

test('says what it is about: contract, program, who tried, and which calls have no cases and why', async () => {
	const report = await reportOf([], 0);
	expect(report.schema).toBe('gpuaas.isolation/v1');
	expect(report.contractSha256).toMatch(/^[0-9a-f]{64}$/);
	expect(report.contractSha256).not.toBe(createHash('sha256').digest('hex'));
	expect(report.version).toMatch(/^\d+\.\d+\.\d+/);
	expect(report.strangers).toEqual(['the owner of another organization', ...STRANGERS]);
	const named = new Map(report.exempt.map(({ rpc, why }) => [rpc, why]));
	for (const [rpc, why] of Object.entries(EXEMPT)) expect(named.get(rpc)).toBe(why);
	expect(report.exempt.every(({ why }) => why !== '')).toBe(true);
	expect(summary(report)).toContain(report.contractSha256.slice(0, 16));
});
