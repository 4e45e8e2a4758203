import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { parsePolicy, XIDS_LISTED } from './parse-policy.ts';

/** The table of NVIDIA's catalogue (2025-10-29), written down a second time: a slip in one shows. */
const TABLE: Readonly<Record<string, string>> = {
	reset: '46 62 64 95 109 110 119 120 136 140 143 155 156 158',
	reset_then_sram: '48',
	reboot: '79 151',
	nvlink: '74 144 145 146 147 148 149 150',
	support: '54 142',
	software: '78',
	driver_action: '154',
	app: '8 11 13 25 31 32 39 40 41 60 68 69 70 71 72 75 76 77 80 82 83 84 85 86 88 89 94 96 97 98 99 100 101 102 103 104 105 126 127 128 129 130 131 132 133 134 135 139',
	follow: '45',
	note: '37 38 43 44 63 66 67 92 93 106 107 121 137 141 152 153 157 160 161',
	check_uvm: '159',
};

type Json = Record<string, unknown>;
const copy = () =>
	JSON.parse(JSON.stringify(DEFAULT_POLICY)) as Record<string, Json> & { facts: Json[]; rates: Json[] };

function refusal(change: (document: ReturnType<typeof copy>) => void): string {
	const document = copy();
	change(document);
	try {
		parsePolicy(document);
	} catch (error) {
		expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'HEALTH_POLICY_INVALID' });
		return (error as Error).message;
	}
	return 'accepted';
}

describe('the policy that ships', () => {
	const policy = parsePolicy(DEFAULT_POLICY);

	it('has each XID of the catalogue once, in the class of its immediate action', () => {
		for (const [name, codes] of Object.entries(TABLE)) {
			const own = [...policy.xids].filter(([, other]) => other === name).map(([code]) => code);
			expect(own.sort((a, b) => a - b).join(' '), name).toBe(codes);
		}
		expect(policy.xids.size).toBe(XIDS_LISTED);
	});

	it('survives being written and read as JSON', () => {
		expect(parsePolicy(copy())).toEqual(policy);
	});
});

describe('a policy that is wrong is refused with the path of what is wrong', () => {
	const cases: readonly (readonly [string, (document: ReturnType<typeof copy>) => void, string])[] = [
		['a code twice', (d) => (d.xidClasses as Record<string, { codes: unknown[] }>).app?.codes.push(79), 'has XID 79'],
		[
			'a code that is missing',
			(d) => (d.xidClasses as Record<string, { codes: unknown[] }>).reboot?.codes.shift(),
			'no rule for XID 79',
		],
		[
			'UNHEALTHY that asks for nothing',
			(d) => Object.assign(d.facts[0] ?? {}, { actions: ['NONE'] }),
			'policy.facts[0].actions',
		],
		['no action', (d) => Object.assign(d.rates[0] ?? {}, { actions: [] }), 'policy.rates[0].actions is empty'],
		['a misspelt field', (d) => Object.assign(d.facts[0] ?? {}, { atleast: 3 }), 'unknown field "atleast"'],
		['a rule that says it again', (d) => d.facts.push({ ...d.facts[0], check: 'other' }), 'says already'],
		[
			'a kind of fact that is none',
			(d) => Object.assign(d.facts[0] ?? {}, { fact: 'GPU_LOSS' }),
			'policy.facts[0].fact',
		],
		[
			'an unknown action',
			(d) => Object.assign(d.facts[0] ?? {}, { actions: ['KICK'] }),
			'is none of NONE, RESTART_APP',
		],
		[
			'a threshold out of bounds',
			(d) => Object.assign(d.thresholds ?? {}, { silencePeriods: 0 }),
			'policy.thresholds.silencePeriods',
		],
		[
			'a number of links below 0',
			(d) => Object.assign(d.facts.find(({ fact }) => fact === 'NVLINK_COUNT') ?? {}, { expected: { x: -1 } }),
			'.expected.x is not a number from 0',
		],
		[
			'two measures of one thing',
			(d) => d.facts.push({ ...d.facts.find(({ fact }) => fact === 'NVLINK_COUNT'), check: 'other' }),
			'says already',
		],
		['a threshold that is missing', (d) => delete (d.thresholds as Json).burstMs, 'lacks the field "burstMs"'],
		['silence that is healthy', (d) => Object.assign(d.xidClasses?.silence as Json, { state: 'HEALTHY' }), '"silence"'],
		['a recovery action without a rule', (d) => delete (d.recoveryActions as Json)['4'], 'recovery action 4'],
		[
			'an override by a class that is none',
			(d) => Object.assign(d, { fleets: { a: { xids: { 63: 'fatal' } } } }),
			'fleets.a.xids.63',
		],
	];

	it.each(cases)('%s', (_name, change, message) => {
		expect(refusal(change)).toContain(message);
	});

	it('and what is no object at all', () => {
		for (const document of [undefined, null, 7, [], 'policy'])
			expect(() => parsePolicy(document)).toThrow('policy is not an object');
	});
});

describe('overrides of a fleet', () => {
	const document = { ...copy(), fleets: { edge: { xids: { 63: 'reset' }, thresholds: { silencePeriods: 5 } } } };

	it('count for it alone, and its verdicts say so', () => {
		const [edge, other] = [parsePolicy(document, 'edge'), parsePolicy(document)];
		expect([edge.xids.get(63), other.xids.get(63)]).toEqual(['reset', 'note']);
		expect([edge.thresholds.silencePeriods, other.thresholds.silencePeriods]).toEqual([5, 3]);
		expect([edge.version, other.version]).toEqual([`${DEFAULT_POLICY.version}+edge`, DEFAULT_POLICY.version]);
		expect(edge.xids.size).toBe(XIDS_LISTED);
	});

	it('of a fleet that it does not name are refused', () => {
		expect(() => parsePolicy(document, 'core')).toThrow(
			expect.objectContaining({ code: 'NOT_FOUND', reason: 'HEALTH_FLEET_UNKNOWN' }),
		);
	});
});
