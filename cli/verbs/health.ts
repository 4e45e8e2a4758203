import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { DEFAULT_POLICY } from '../../health/default-policy.ts';
import { parsePolicy } from '../../health/parse-policy.ts';
import type { Outcome, Policy } from '../../health/policy.ts';
import type { HealthState, Subject, Verdict } from '../../health/verdict.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { type Arguments, type Command, type Option, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { readRecords } from '../health/records.ts';
import { timeline, type VerdictChange } from '../health/timeline.ts';
import { type Io, paint, printable, printJson, printTable, write } from '../io.ts';
import { decisions } from './health-decisions.ts';

const POLICY_OPTIONS: Readonly<Record<string, Option>> = {
	policy: { type: 'string', short: 'p', value: 'FILE', help: 'This policy (JSON) instead of the one that ships' },
	fleet: { type: 'string', short: 'f', value: 'NAME', help: 'With the overrides of this fleet' },
};

async function policyOf(args: Arguments, io: Io): Promise<{ readonly document: unknown; readonly policy: Policy }> {
	const path = args.text('policy');
	const document = path === undefined ? DEFAULT_POLICY : await documentOf(resolve(io.cwd, path));
	return { document, policy: parsePolicy(document, args.text('fleet')) };
}

async function documentOf(path: string): Promise<unknown> {
	try {
		return JSON.parse(await readFile(path, 'utf8'));
	} catch (error) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'HEALTH_POLICY_INVALID',
			message: `${path} is no health policy (${messageOf(error)}); write one with: gpuaas health policy show --json`,
		});
	}
}

const show: Command = {
	name: 'health policy show',
	isLocal: true,
	summary: 'Show what facts about health mean: checks, XIDs, actions, thresholds',
	options: POLICY_OPTIONS,
	examples: [
		['gpuaas health policy show', 'The policy that ships'],
		['gpuaas health policy show --json > policy.json', 'One to change, and to test with: health policy test --policy'],
	],
	async run(args, io) {
		take(show, args);
		const { document, policy } = await policyOf(args, io);
		if (args.flag('json')) await printJson(io, document);
		else {
			await write(io.stdout, `policy ${printable(policy.version)}: ${printable(policy.source)}\n\n`);
			await printTable(io, ['CHECK', 'WHAT', 'STATE', 'SCHEDULABLE', 'ACTIONS', 'CLEARED BY'], rowsOf(policy), '');
			const thresholds = Object.entries(policy.thresholds).map(([name, value]) => [name, String(value)]);
			await write(io.stdout, '\n');
			await printTable(io, ['THRESHOLD', 'VALUE'], thresholds, '');
		}
		return EXIT.ok;
	},
};

function rowsOf({ facts, rates, recoveryActions, xidClasses, xids }: Policy): readonly (readonly string[])[] {
	const row = (check: string, what: string, { state, schedulable, actions, clears }: Outcome) => [
		check,
		what,
		state,
		state === 'HEALTHY' || (state === 'DEGRADED' && schedulable !== false) ? 'yes' : 'no',
		actions.join(', '),
		clears.join(', '),
	];
	const codesOf = (name: string) => ranges([...xids].filter(([, other]) => other === name).map(([code]) => code));
	return [
		...[...xidClasses].map(([name, outcome]) => row(`xid ${name}`, codesOf(name), outcome)),
		...[...recoveryActions].map(([action, outcome]) => row('driver.recovery_action', String(action), outcome)),
		...facts.map((rule) =>
			row(rule.check, [rule.fact, rule.code, rule.after?.join('|')].filter(Boolean).join(' '), rule),
		),
		...rates.map((rule) => row(rule.check, `${rule.key} > ${rule.max} in ${rule.windowMs / 1000} s`, rule)),
	];
}

/** 1 2 3 7 -> "1-3 7". */
function ranges(numbers: readonly number[]): string {
	const runs: [first: number, last: number][] = [];
	for (const number of numbers.toSorted((left, right) => left - right)) {
		const run = runs.at(-1);
		if (run?.[1] === number - 1) run[1] = number;
		else runs.push([number, number]);
	}
	return runs.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)).join(' ');
}

const test: Command = {
	name: 'health policy test',
	isLocal: true,
	summary: 'Replay recorded facts against a policy and print which verdicts it would have given, and when',
	description:
		'FILE is NDJSON, oldest first. A line has "at" (RFC 3339) and, where there are several nodes, "node"; and one of "fact" (a HealthFact as proto JSON), "sample" ({"parts": [{"kind", "id", "index", "values"}]}), "clearing" ({"clearing": "gpu_reset", "kind", "id"}) and "removed" ({"kind", "id"}), each with "custody". A line with none of them only lets time pass. Nothing is asked of a control plane, and nothing is changed.',
	usage: 'FILE',
	options: {
		...POLICY_OPTIONS,
		'facts-only': { type: 'boolean', help: 'The file has no samples: silence in it means nothing' },
	},
	examples: [
		['gpuaas health policy test facts.ndjson', 'By the policy that ships'],
		['gpuaas health policy test facts.ndjson --policy policy.json --json', 'By your own, a verdict a line'],
	],
	async run(args, io) {
		const [path = ''] = take(test, args, 'FILE');
		const { policy } = await policyOf(args, io);
		const judgesSilence = !args.flag('facts-only');
		for await (const change of timeline(readRecords(resolve(io.cwd, path)), policy, { judgesSilence })) {
			if (args.flag('json')) await printJson(io, jsonOf(change));
			else await write(io.stdout, `${lineOf(io, change)}\n`);
		}
		return EXIT.ok;
	},
};

const COLOURS: Readonly<Record<HealthState, 'green' | 'yellow' | 'red' | 'cyan'>> = {
	HEALTHY: 'green',
	DEGRADED: 'yellow',
	UNHEALTHY: 'red',
	UNKNOWN: 'cyan',
};

function lineOf(io: Io, { atMs, node, before, verdict }: VerdictChange): string {
	const { state, actions, reasons, schedulable, custody, simulated, clearedBy } = verdict;
	const from = before === undefined || before === state ? '' : `${before} -> `;
	const why = reasons.map(({ checkId, code }) => (code === '' ? checkId : `${checkId} (${code})`)).join(', ');
	const notes = [
		schedulable ? '' : 'not schedulable',
		custody === 'platform' ? '' : `said in ${custody} custody: decides nothing`,
		simulated ? 'simulated' : '',
		why === '' && clearedBy !== null ? `cleared by ${clearedBy}` : '',
	].filter((note) => note !== '');
	const text = [
		new Date(atMs).toISOString(),
		...(node === '' ? [] : [printable(node)]),
		printable(nameOf(verdict.subject)),
		`${from}${paint(io, COLOURS[state], state)}`,
		actions.join(' '),
		...(why === '' ? [] : [printable(why)]),
		...(notes.length === 0 ? [] : [`[${notes.join('; ')}]`]),
	];
	return text.join('  ');
}

function nameOf({ kind, id, index }: Subject): string {
	if (kind === 'node') return 'node';
	return kind === 'nvlink' || kind === 'nic' ? `${kind} ${id}/${index}` : `${kind} ${id}`;
}

function jsonOf({ atMs, node, before, verdict }: VerdictChange) {
	const time = (ms: number) => new Date(ms).toISOString();
	const { sinceMs, ttlMs, evidence, reasons, clearedAtMs, ...rest } = verdict satisfies Verdict;
	return {
		at: time(atMs),
		node,
		before: before ?? null,
		...rest,
		reasons: reasons.map(({ sinceMs: from, lastMs, ...one }) => ({ ...one, since: time(from), last: time(lastMs) })),
		clearedAt: clearedAtMs === null ? null : time(clearedAtMs),
		evidence: evidence.map(({ observedAtMs, ...one }) => ({ ...one, observedAt: time(observedAtMs) })),
		since: time(sinceMs),
		ttlMs,
	};
}

export const commands: readonly Command[] = [show, test, ...decisions];
