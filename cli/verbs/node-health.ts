import { timestampDate } from '@bufbuild/protobuf/wkt';
import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	HealthClearing,
	type HealthRecord,
	HealthService,
	HealthState,
	type NodeHealth,
	NodeHealthLineSchema,
	NodeHealthSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactSchema, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type Api, collect, connect } from '../client.ts';
import { type Arguments, type Command, pairs, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import {
	actionsText,
	colouredState,
	glanceText,
	reasonsText,
	subjectText,
	verdictText,
} from '../health/show-verdict.ts';
import { type Io, paint, printable, printJson, printTable, write } from '../io.ts';
import { byNodeName } from '../node-order.ts';
import { ago, enumName, json } from '../show.ts';

const NODES_MAX = 100_000;

export const nodeHealth: Command = {
	name: 'node health',
	summary: 'Show how nodes are: verdicts, why, what was seen, and what to do next',
	description:
		'Without NODE a line for each node that you may see. Verdicts are made by the health policy from what agents and the platform saw; what was only said while a tenant had the node is shown and decides nothing. --facts writes what verdicts were made from, a record a line, with the samples of the last hours that rules look at, for: gpuaas health policy test FILE --facts-only.',
	usage: '[NODE]',
	options: {
		selector: { type: 'string', short: 'l', multiple: true, value: 'K=V', help: 'Only nodes with this label' },
		facts: { type: 'boolean', help: 'The records of NODE instead, NDJSON, oldest first' },
	},
	examples: [
		['gpuaas node health', 'The fleet that you may see, what is wrong first'],
		['gpuaas node health gpu-07', 'One node: every verdict that is not HEALTHY, with its evidence'],
		[
			'gpuaas node health gpu-07 --facts > facts.ndjson',
			'To replay: gpuaas health policy test facts.ndjson --facts-only',
		],
	],
	async run(args, io) {
		const [name, more] = args.positionals;
		if (more !== undefined) throw usageError(nodeHealth, `unexpected argument ${JSON.stringify(more)}`);
		const api = await connect(io, args);
		if (args.flag('facts')) {
			if (name === undefined) throw usageError(nodeHealth, 'NODE is missing: --facts are of one');
			return await facts(api, io, name);
		}
		return name === undefined ? await list(api, args, io) : await one(api, args, io, name);
	},
};

async function list(api: Api, args: Arguments, io: Io): Promise<number> {
	const selector = pairs(nodeHealth, 'selector', args.texts('selector'));
	const { items } = await collect(
		(pageToken) => api.client(HealthService).listNodeHealth({ pageToken, pageSize: 1000, selector }),
		(response) => response.nodes,
		NODES_MAX,
	);
	if (args.flag('json')) {
		await printJson(io, { nodes: items.map((node) => json(NodeHealthLineSchema, node)) });
		return EXIT.ok;
	}
	const worst = items.toSorted(
		(left, right) =>
			(right.health?.state ?? HealthState.UNSPECIFIED) - (left.health?.state ?? HealthState.UNSPECIFIED) ||
			byNodeName(left, right),
	);
	await printTable(
		io,
		['NAME', 'HEALTH', 'SINCE', 'TO DO', 'WHY'],
		worst.map(({ name, health, actions, reasons }) => [
			name,
			glanceText(io, health),
			ago(io, health?.since),
			actionsText(actions),
			reasonsText(reasons),
		]),
		'no nodes that you may see',
	);
	return EXIT.ok;
}

async function one(api: Api, args: Arguments, io: Io, name: string): Promise<number> {
	const { health } = await api.client(HealthService).getNodeHealth({ node: name });
	if (health === undefined) return EXIT.failed;
	if (args.flag('json')) {
		await printJson(io, json(NodeHealthSchema, health));
		return EXIT.ok;
	}
	await write(io.stdout, `${textOf(io, health)}\n`);
	return EXIT.ok;
}

function textOf(io: Io, health: NodeHealth): string {
	const { name, glance, verdicts, quarantine, changes, next } = health;
	if (verdicts.length === 0) return `${printable(name)}: nobody has judged it yet, or nothing of it is yours to see`;
	const lines = [
		`${paint(io, 'bold', printable(name))}: ${glanceText(io, glance)} (policy ${glance?.policyVersion ?? '-'})`,
	];
	const override = glance?.override;
	if (override !== undefined)
		lines.push(
			`override: ${override.schedulable ? 'may' : 'may not'} be given to anybody; ends ${ago(io, override.expiresAt)}; ${printable(override.createdBy)}: ${printable(override.reason)}`,
		);
	if (quarantine !== undefined)
		lines.push(
			`quarantine: since ${ago(io, quarantine.since)}, ${printable(quarantine.reason)}, ${quarantine.attempts} of ${quarantine.attemptsMax} attempts`,
		);
	const [shown, well] = [verdicts.filter(isTold), verdicts.filter((verdict) => !isTold(verdict))];
	lines.push('', ...shown.map((verdict) => verdictText(io, verdict)));
	if (well.length > 0)
		lines.push(`${well.length} more HEALTHY: ${well.map(subjectText).slice(0, 16).map(printable).join(', ')}`);
	if (next.length > 0) lines.push('', 'next:', ...next.map((step) => `  ${printable(step)}`));
	if (changes.length > 0) {
		lines.push('', 'lately:');
		for (const { at, before, verdict } of changes.slice(0, 10))
			if (verdict !== undefined)
				lines.push(
					`  ${at === undefined ? '' : timestampDate(at).toISOString()} ${printable(subjectText(verdict))}: ${before === HealthState.UNSPECIFIED ? '' : `${colouredState(io, before)} -> `}${colouredState(io, verdict.state)}${verdict.simulated ? ' [simulated]' : ''} ${printable(reasonsText(verdict.reasons))}`,
				);
	}
	return lines.join('\n');
}

function isTold({ state, reasons, subject }: NodeHealth['verdicts'][number]): boolean {
	return state !== HealthState.HEALTHY || reasons.length > 0 || subject?.kind === HealthSubjectKind.NODE;
}

const CLEARINGS: Readonly<Partial<Record<HealthClearing, string>>> = {
	[HealthClearing.GPU_RESET]: 'gpu_reset',
	[HealthClearing.DIAGNOSTIC_PASSED]: 'diagnostic_passed',
	[HealthClearing.SERVICED]: 'serviced',
};

/** In the form that `health policy test` reads. */
async function facts(api: Api, io: Io, name: string): Promise<number> {
	const { records, samplesFrom } = await api.client(HealthService).getNodeHealthRecords({ node: name });
	for (const record of records) await printJson(io, recordLine(name, record));
	if (records.length === 0) await write(io.stderr, 'nothing was recorded of this node yet\n');
	else if (samplesFrom === undefined)
		await write(io.stderr, 'the agent did not say any samples: rates and load can not be replayed\n');
	return EXIT.ok;
}

/** As `health policy test` reads it. */
export function recordLine(node: string, { at, custody, record, tenant }: HealthRecord): unknown {
	const line = {
		at: at === undefined ? '' : timestampDate(at).toISOString(),
		node,
		custody: enumName(Custody, custody),
		...(tenant === '' ? {} : { tenant }),
	};
	if (record.case === 'fact') return { ...line, fact: json(HealthFactSchema, record.value) };
	if (record.case === 'sample') {
		const { simulated, parts } = record.value;
		const about = parts.map(({ subject, values }) => ({
			kind: enumName(HealthSubjectKind, subject?.kind ?? HealthSubjectKind.NODE),
			id: subject?.id ?? '',
			index: subject?.index ?? 0,
			values,
		}));
		return { ...line, sample: { simulated, parts: about } };
	}
	if (record.case !== 'evidence') return line;
	const { clearing, subject, taskId, shownAt } = record.value;
	const kind = enumName(HealthSubjectKind, subject?.kind ?? HealthSubjectKind.NODE);
	const about = { clearing: CLEARINGS[clearing] ?? '', kind, id: subject?.id ?? '', index: subject?.index ?? 0 };
	const task = taskId === '' ? {} : { taskId };
	const shown = shownAt === undefined ? {} : { shownAt: timestampDate(shownAt).toISOString() };
	return { ...line, clearing: { ...about, ...task, ...shown } };
}
