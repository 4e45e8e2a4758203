import { GpuaasError } from '../../kit/error.ts';
import { GpuProcessSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import {
	type GpuGlance,
	GpuGlanceSchema,
	type NodeGlance,
	TelemetryService,
	TelemetryThingSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { type Api, collect, connect } from '../client.ts';
import { type Command, pairs, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { stateName } from '../health/show-verdict.ts';
import { paint, printJson, printTable, write } from '../io.ts';
import { byNodeName } from '../node-order.ts';
import { measured, quantity } from '../quantity.ts';
import { fields, json } from '../show.ts';

const NODES_MAX = 100_000;

interface Found {
	readonly node: NodeGlance;
	readonly gpu: GpuGlance;
}

async function allGpus(api: Api, selector: Record<string, string>): Promise<readonly Found[]> {
	const { items } = await collect(
		(pageToken) => api.client(TelemetryService).listNodeTelemetry({ pageToken, pageSize: 1000, selector }),
		(response) => response.nodes,
		NODES_MAX,
	);
	return items.toSorted(byNodeName).flatMap((node) => node.gpus.map((gpu) => ({ node, gpu })));
}

const shown = (value: number | undefined, unit: string) => (value === undefined ? '-' : quantity(value, unit));

const list: Command = {
	name: 'gpu list',
	summary: 'List GPUs and MIG devices that report',
	options: {
		node: { type: 'string', short: 'n', value: 'NODE', help: 'Only of this node' },
		selector: { type: 'string', short: 'l', multiple: true, value: 'K=V', help: 'Only of nodes with this label' },
	},
	examples: [
		['gpuaas gpu list -n gpu-07', 'Those of one node'],
		['gpuaas gpu list --json', 'For a program'],
	],
	async run(args, io) {
		take(list, args);
		const name = args.text('node');
		const all = await allGpus(await connect(io, args), pairs(list, 'selector', args.texts('selector')));
		const found = all.filter(({ node }) => name === undefined || node.name === name || node.nodeId === name);
		if (args.flag('json')) {
			const gpus = found.map(({ node, gpu }) => ({
				node: node.name,
				nodeId: node.nodeId,
				simulated: node.simulated,
				...(json(GpuGlanceSchema, gpu) as object),
			}));
			await printJson(io, { gpus });
			return EXIT.ok;
		}
		await printTable(
			io,
			['NODE', 'GPU', 'MODEL', 'HEALTH', 'UTIL', 'MEMORY', 'POWER', 'TEMP', 'UUID', 'NOTE'],
			found.map(({ node, gpu }) => [
				node.name,
				gpu.profile === '' ? String(gpu.index) : `${gpu.index} ${gpu.profile}`,
				gpu.model,
				stateName(gpu.health),
				shown(gpu.utilisation ?? gpu.active, 'ratio'),
				`${shown(gpu.memoryUsedBytes, 'bytes')} / ${shown(gpu.memoryBytes, 'bytes')}`,
				shown(gpu.powerWatts, 'watts'),
				shown(gpu.temperatureCelsius, 'celsius'),
				gpu.uuid,
				[node.simulated ? 'simulated' : '', gpu.healthSimulated && !node.simulated ? 'simulated fault' : ''].join(''),
			]),
			'no GPU reports; see which nodes do with: gpuaas top',
		);
		return EXIT.ok;
	},
};

const show: Command = {
	name: 'gpu show',
	summary: 'Show everything that a GPU or MIG device reports',
	description:
		'Where the owner of the node reports them (gpu.processes in the configuration of its agent), also its processes, with the task or terminal that each is of.',
	usage: 'UUID|NODE/GPU',
	examples: [
		['gpuaas gpu show GPU-5fd4f087', 'The beginning of a UUID is enough'],
		['gpuaas gpu show gpu-07/3', 'By its number on a node'],
	],
	async run(args, io) {
		const [uuid = ''] = take(show, args, 'UUID|NODE/GPU');
		const api = await connect(io, args);
		const found = (await allGpus(api, {})).filter((one) => isMeant(one, uuid));
		const [one, other] = found;
		if (one === undefined || other !== undefined) throw notOne(uuid, found.length);
		const { telemetry } = await api.client(TelemetryService).getNodeTelemetry({ node: one.node.nodeId });
		const thing = telemetry?.things.find(({ id, part }) => id === one.gpu.uuid && (part === 'gpu' || part === 'slice'));
		if (thing === undefined || telemetry === undefined) throw notOne(uuid, 0);
		const processes = telemetry.processes.filter(({ gpu }) => gpu === thing.id);
		if (args.flag('json')) {
			await printJson(io, {
				node: telemetry.name,
				simulated: telemetry.simulated,
				...(json(TelemetryThingSchema, thing) as object),
				processes: processes.map((process) => json(GpuProcessSchema, process)),
			});
			return EXIT.ok;
		}
		if (telemetry.simulated)
			await write(
				io.stdout,
				`${paint(io, 'yellow', 'simulated: these values come from a test double, not from hardware')}\n`,
			);
		await write(
			io.stdout,
			fields([
				['uuid', thing.id],
				['node', telemetry.name],
				['health', `${stateName(one.gpu.health)}${one.gpu.healthSimulated ? ' (simulated)' : ''}`],
				['model', `${thing.model}${thing.profile === '' ? '' : ` (${thing.profile})`}`],
				...thing.values.map((value) => [value.key, measured(value)] as const),
			]),
		);
		if (processes.length === 0) return EXIT.ok;
		await write(io.stdout, '\n');
		await printTable(
			io,
			['PID', 'MEMORY', 'SM', 'OF'],
			processes.map(({ pid, memoryBytes, smUtilisation, taskId, terminalId }) => [
				String(pid),
				shown(memoryBytes, 'bytes'),
				shown(smUtilisation, 'ratio'),
				taskId === '' ? (terminalId === '' ? '-' : `terminal ${terminalId}`) : `task ${taskId}`,
			]),
			'',
		);
		return EXIT.ok;
	},
};

/** A UUID or its beginning; or NODE/NUMBER, NODE/UUID. */
function isMeant({ node, gpu }: Found, text: string): boolean {
	const at = text.lastIndexOf('/');
	const [name, rest] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
	if (at >= 0 && name !== node.name && name !== node.nodeId) return false;
	if (/^\d{1,2}$/.test(rest) && at >= 0) return gpu.profile === '' && gpu.index === Number(rest);
	return gpu.uuid.startsWith(rest);
}

function notOne(uuid: string, count: number): GpuaasError {
	return new GpuaasError({
		code: count === 0 ? 'NOT_FOUND' : 'INVALID_ARGUMENT',
		reason: count === 0 ? 'NOT_FOUND' : 'INVALID_REQUEST',
		message:
			count === 0
				? `no GPU that you may see reports as ${JSON.stringify(uuid)}; list them with: gpuaas gpu list`
				: `${count} GPUs begin with ${JSON.stringify(uuid)}; give more of the UUID`,
	});
}

export const commands: readonly Command[] = [list, show];
