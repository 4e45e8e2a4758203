import { durationFromMs, durationMs as msOf, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Client } from '@connectrpc/connect';
import { GpuaasError } from '../../kit/error.ts';
import { ProbeState } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import {
	GetProjectMetricsResponseSchema,
	type NodeTelemetry,
	NodeTelemetrySchema,
	QueryTelemetryHistoryResponseSchema,
	TelemetryService,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { connect } from '../client.ts';
import { type Command, durationMs, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { historyLine, historyName } from '../history-line.ts';
import { type Io, paint, printJson, write } from '../io.ts';
import { hasOutlivedToken } from '../oidc/outlived.ts';
import { measured } from '../quantity.ts';
import { scopeName } from '../scope-names.ts';
import { enumName, json } from '../show.ts';

const query: Command = {
	name: 'telemetry query',
	summary: 'Show what a node measured: a line of history for each GPU and metric',
	usage: 'NODE METRIC...',
	description:
		'Metrics are named as gpuaas telemetry watch shows them (temperature.gpu, power.usage, utilisation.gpu, memory.used, load.1 with --part host). The newest three hours come from the agent, older ones are minutes. Counters are shown as their rate.',
	options: {
		since: { type: 'string', value: 'DURATION', help: 'How far back (default 1h)' },
		part: { type: 'string', value: 'PART', help: 'gpu (default), host, slice, nvlink, ibPort, disk' },
		id: { type: 'string', value: 'ID', help: 'Only this GPU, slice, port or disk' },
	},
	examples: [
		['gpuaas telemetry query gpu-07 temperature.gpu power.usage', 'The last hour of its GPUs'],
		['gpuaas telemetry query gpu-07 load.1 --part host --since 2d --json', 'For a program'],
	],
	async run(args, io) {
		const [node, ...keys] = args.positionals;
		if (node === undefined) throw usageError(query, 'NODE is missing');
		if (keys.length === 0) throw usageError(query, 'METRIC is missing, such as temperature.gpu');
		const sinceMs = durationMs(query, 'since', args.text('since')) ?? 3_600_000;
		const { client } = await connect(io, args);
		const answer = await client(TelemetryService).queryTelemetryHistory({
			node,
			part: args.text('part') ?? 'gpu',
			id: args.text('id') ?? '',
			keys,
			from: timestampFromMs(io.clock.now() - sinceMs),
		});
		if (args.flag('json')) {
			await printJson(io, json(QueryTelemetryHistoryResponseSchema, answer));
			return EXIT.ok;
		}
		if (answer.series.length === 0) {
			await write(io.stderr, 'nothing was measured then, or not while you had the node\n');
			return EXIT.ok;
		}
		if (answer.simulated) await write(io.stdout, `${paint(io, 'yellow', 'simulated values')}\n`);
		const stepMs = answer.step === undefined ? 60_000 : msOf(answer.step);
		const width = Math.max(...answer.series.map((series) => historyName(series).length));
		for (const series of answer.series) await write(io.stdout, `${historyLine(series, stepMs, width)}\n`);
		const ring = answer.ringFrom === undefined ? '; the agent did not answer, so these are minutes' : '';
		await write(io.stdout, `${paint(io, 'dim', `a bar is ${Math.round(stepMs / 1000)} s or more${ring}`)}\n`);
		return EXIT.ok;
	},
};

const watch: Command = {
	name: 'telemetry watch',
	summary: 'Print what a node measures, each time it does',
	usage: 'NODE [METRIC...]',
	options: {
		fast: { type: 'boolean', help: 'Ask the agent to sample each second meanwhile' },
		count: { type: 'string', value: 'N', help: 'End after so many samples' },
	},
	examples: [
		['gpuaas telemetry watch gpu-07', 'Everything, every 15 s'],
		['gpuaas telemetry watch gpu-07 power.usage temperature.gpu --fast --json', 'Two metrics a second, NDJSON'],
	],
	async run(args, io) {
		const [node, ...keys] = args.positionals;
		if (node === undefined) throw usageError(watch, 'NODE is missing');
		const count = Number(args.text('count') ?? '0');
		if (!Number.isInteger(count) || count < 0) throw usageError(watch, '--count is a whole number from 1');
		const { client } = await connect(io, args);
		const telemetry = client(TelemetryService);
		let fastUntilMs = 0;
		const keepFast = async () => {
			if (!args.flag('fast') || io.clock.now() < fastUntilMs) return;
			await telemetry.requestFastTelemetry({ node, duration: durationFromMs(FAST_MS) });
			// Again while half of it is left, so that there is no gap.
			fastUntilMs = io.clock.now() + FAST_MS / 2;
		};
		await keepFast();
		try {
			for await (const sample of samplesOf(telemetry, node, count, io.interrupt)) {
				await printSample(io, only(sample, keys), args.flag('json'));
				await keepFast();
			}
		} catch (error) {
			if (!io.interrupt.aborted) throw error;
		}
		return io.interrupt.aborted ? EXIT.interrupted : EXIT.ok;
	},
};

const FAST_MS = 60_000;

/** `count` of them, 0: without end; over as many tokens of a login as that takes. */
async function* samplesOf(
	client: Client<typeof TelemetryService>,
	node: string,
	count: number,
	signal: AbortSignal,
): AsyncGenerator<NodeTelemetry> {
	let seen = 0;
	for (;;) {
		const before = seen;
		try {
			const samplesMax = count === 0 ? 0 : count - seen;
			for await (const { telemetry } of client.watchNodeTelemetry({ node, samplesMax }, { signal })) {
				if (telemetry === undefined) continue;
				seen += 1;
				yield telemetry;
			}
			return;
		} catch (thrown) {
			const isOver = seen === before || (count !== 0 && seen >= count);
			if (isOver || !hasOutlivedToken(GpuaasError.from(thrown))) throw thrown;
		}
	}
}

function only(sample: NodeTelemetry, keys: readonly string[]): NodeTelemetry {
	if (keys.length === 0) return sample;
	for (const thing of sample.things) thing.values = thing.values.filter(({ key }) => keys.includes(key));
	sample.things = sample.things.filter(({ values }) => values.length > 0);
	return sample;
}

async function printSample(io: Io, sample: NodeTelemetry, asJson: boolean): Promise<void> {
	if (asJson) return await printJson(io, json(NodeTelemetrySchema, sample));
	const marks = [
		`${Math.round(sample.ageSeconds)} s old`,
		sample.stale ? 'STALE' : '',
		sample.simulated ? 'simulated' : '',
		sample.probe === ProbeState.RUNNING ? '' : `probe ${enumName(ProbeState, sample.probe)}`,
		sample.refused === '' ? '' : `last frame refused: ${sample.refused}`,
	].filter((mark) => mark !== '');
	const lines = [paint(io, 'bold', `${sample.name}: ${marks.join(', ')}`)];
	for (const { part, id, index, values } of sample.things) {
		const name = [part, id, part === 'nvlink' || part === 'ibPort' ? String(index) : ''].filter((word) => word !== '');
		lines.push(`  ${name.join(' ')}`);
		for (const value of values) lines.push(`    ${value.key.padEnd(28)} ${measured(value)}`);
	}
	await write(io.stdout, `${lines.join('\n')}\n`);
}

const metrics: Command = {
	name: 'telemetry metrics',
	summary: "Print the page of a project's nodes as a Prometheus reads it",
	usage: 'PROJECT',
	description:
		'What the nodes of a project measure now, clipped to its assignments, by our names and those of dcgm-exporter. A Prometheus gets the same from GET /metrics/projects/ORGANIZATION/PROJECT of the API, with an API key whose role holds telemetry.get as its bearer token (authorization.credentials_file); names, shard and of are its parameters.',
	options: {
		names: { type: 'string', value: 'NAMES', help: 'Only one spelling: gpuaas or dcgm' },
		part: { type: 'string', value: 'I/N', help: 'Only part I of N, counted from 0, the same nodes each time' },
	},
	examples: [
		['gpuaas telemetry metrics acme/train', 'The whole page'],
		['gpuaas telemetry metrics acme/train --names dcgm --part 0/4', 'A quarter of its nodes, as dcgm-exporter'],
	],
	async run(args, io) {
		const [project] = args.positionals;
		if (project === undefined) throw usageError(metrics, 'PROJECT is missing, such as acme/train');
		const [, shard, shards] = /^(\d{1,3})\/(\d{1,4})$/.exec(args.text('part') ?? '0/0') ?? [];
		if (shard === undefined) throw usageError(metrics, '--part is I/N, such as 0/4');
		const { client } = await connect(io, args);
		const page = await client(TelemetryService).getProjectMetrics({
			scope: scopeName(project),
			names: args.text('names') ?? '',
			shard: Number(shard),
			shards: Number(shards),
		});
		if (args.flag('json')) await printJson(io, json(GetProjectMetricsResponseSchema, page));
		else await write(io.stdout, page.text);
		if (page.silent > 0)
			await write(io.stderr, `${page.silent} of ${page.nodes} nodes are silent here: they have no values\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [query, watch, metrics];
