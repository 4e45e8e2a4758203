import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import type { CaseResult } from './calls.ts';
import { rpcs } from './cases.ts';
import { runMatrix } from './matrix.ts';
import { MODES, OPEN, openMode } from './modes.ts';
import { reportOf, summary } from './report.ts';
import { STRANGERS } from './strangers.ts';

/** `npm run isolation` is the same, with its report as a file. */
const proven: string[] = [];
let server: PostgresServer;
beforeAll(async () => {
	server = await PostgresServer.start({ durable: false });
});
afterAll(() => server[Symbol.asyncDispose]());

/** Each by its own name, so that one can be run alone. */
describe('isolation: sqlite', () => proves('sqlite'));
describe('isolation: postgres', () => proves('postgres'));
describe('isolation: postgres, row security alone', () => proves('postgres, row security alone'));
describe('isolation: postgres, application filter alone', () => proves('postgres, application filter alone'));

test('every mode is proven', () => {
	expect(proven).toEqual(MODES.map(({ name }) => name));
});

function proves(name: string): void {
	const mode = present(
		MODES.find((one) => one.name === name),
		'a mode of that name',
	);
	proven.push(name);
	let results: readonly CaseResult[] = [];

	test('what is another tenant’s reads as what is nobody’s, nothing happens, and the caller’s log says so', async () => {
		await using open = await openMode(mode, server);
		results = await runMatrix(open);
		const report = await reportOf([{ ...mode, results }], systemClock.now());
		expect(report.failed, summary(report)).toBe(0);
	});

	test('every RPC had a negative and its positive control', () => {
		const seen = (wanted: (name: string) => boolean) =>
			[
				...new Set(results.filter((result) => result.rpc !== '' && wanted(result.case)).map(({ rpc }) => rpc)),
			].toSorted();
		const names = rpcs()
			.map(({ policy }) => policy.name)
			.toSorted();
		expect(seen((name) => name === 'positive')).toEqual(names);
		expect(seen((name) => name !== 'positive' && name !== 'audit')).toEqual(names);
		const tried = STRANGERS.map((stranger) => seen((name) => name.endsWith(` by ${stranger}`)));
		// Who sees it tries what changes something, the others everything.
		const counts = tried.map((of) => (of.length === names.length ? 'all' : of.length > 30 ? 'changes' : of.length));
		const wanted = ['all', 'all', 'all', 'all', 'all', 'changes', 'changes'];
		// Row security alone holds no one off who is of the organization; the report says so of each of them.
		const omitted = results.filter(({ outcome }) => outcome === 'omitted').map((result) => result.case);
		const ofSame = [STRANGERS[2], STRANGERS[5], STRANGERS[6]];
		expect(omitted).toEqual(mode.applicationFilter ? [] : ofSame.map((name) => `by ${name}`));
		expect(counts).toEqual(wanted.map((tries, at) => (omitted.includes(`by ${STRANGERS[at]}`) ? 0 : tries)));
		expect(results.filter((result) => result.case.startsWith('nested')).length).toBeGreaterThan(100);
	});
}

test('with both layers taken away the matrix sees strangers reach nearly everything', async () => {
	await using open = await openMode(OPEN, server);
	const results = await runMatrix(open, true);
	const reached = new Set(
		results
			.filter(({ outcome, case: of }) => outcome === 'fail' && of !== 'audit' && of !== 'positive')
			.map(({ rpc }) => rpc),
	);
	const guarded = rpcs()
		.filter(({ policy }) => policy.target !== 'platform' && ROLES['tenant.owner']?.permissions.has(policy.permission))
		.map(({ policy }) => policy.name);
	const unreached = guarded.filter((rpc) => !reached.has(rpc));
	expect(unreached).toEqual([]);
	expect(guarded.length).toBeGreaterThan(80);
});
