import { durationFromMs, timestampDate } from '@bufbuild/protobuf/wkt';
import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	AssignmentMode,
	AssignmentSchema,
	Connection,
	DrainNodeResponseSchema,
	ExplainNodeResponseSchema,
	type Node,
	NodeSchema,
	NodeService,
	NodeState,
} from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { collect, connect } from '../client.ts';
import { type Arguments, type Command, durationMs, pairs, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, paint, printJson, printTable, write } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { ago, enumName, fields, json, labels } from '../show.ts';

function stateOf(node: Node): string {
	const marks = [node.cordoned ? 'cordoned' : '', node.locked ? 'locked' : ''].filter((mark) => mark !== '');
	return [enumName(NodeState, node.state), ...marks].join(', ');
}

async function report(args: Arguments, io: Io, node: Node | undefined, sentence: string): Promise<number> {
	if (args.flag('json')) await printJson(io, { node: node === undefined ? null : json(NodeSchema, node) });
	else await write(io.stdout, `${sentence}\n`);
	return EXIT.ok;
}

const list: Command = {
	name: 'node list',
	summary: 'List nodes',
	options: {
		selector: {
			type: 'string',
			short: 'l',
			multiple: true,
			value: 'K=V',
			help: 'Only nodes with this label; may be repeated',
		},
	},
	examples: [
		['gpuaas node list', 'Every node that you may see'],
		['gpuaas node list -l rack=r3 --json', 'For a program'],
	],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const selector = pairs(list, 'selector', args.texts('selector'));
		const { items } = await collect(
			(pageToken) => client(NodeService).listNodes({ pageToken, pageSize: 1000, selector }),
			(response) => response.nodes,
			100_000,
		);
		if (args.flag('json')) {
			await printJson(io, { nodes: items.map((node) => json(NodeSchema, node)) });
			return EXIT.ok;
		}
		await printTable(
			io,
			['NAME', 'STATE', 'CONNECTION', 'CUSTODY', 'ASSIGNED TO', 'AGENT', 'LABELS'],
			items.map((node) => [
				node.name,
				stateOf(node),
				enumName(Connection, node.connection),
				enumName(Custody, node.custody),
				node.assignment === undefined ? '-' : `${node.assignment.organization}/${node.assignment.project}`,
				node.agentVersion || '-',
				labels(node.labels),
			]),
			'no nodes; enroll one with: gpuaas token create, then on the host: gpuaas agent enroll',
		);
		return EXIT.ok;
	},
};

const show: Command = {
	name: 'node show',
	summary: 'Show one node',
	usage: 'NODE',
	examples: [['gpuaas node show gpu-07', 'By name or by id']],
	async run(args, io) {
		const [name = ''] = take(show, args, 'NODE');
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).getNode({ node: name });
		if (node === undefined) return EXIT.failed;
		const assignment = node.assignment;
		return report(
			args,
			io,
			node,
			fields([
				['name', node.name],
				['id', node.id],
				['state', stateOf(node)],
				['cordon reason', node.cordonReason],
				['lock reason', node.lockReason],
				['connection', `${enumName(Connection, node.connection)}, last seen ${ago(io, node.lastSeenAt)}`],
				['custody', enumName(Custody, node.custody)],
				['generation', String(node.generation)],
				[
					'assigned to',
					assignment === undefined
						? ''
						: `${assignment.organization}/${assignment.project} (${enumName(AssignmentMode, assignment.mode)}) since ${ago(io, assignment.from)}`,
				],
				['labels', labels(node.labels)],
				['hostname', node.hostname],
				['agent', `${node.agentVersion} (${node.capabilities.join(', ')})`],
				['enrolled', ago(io, node.enrolledAt)],
				['certificate', node.certificateExpiresAt === undefined ? '' : `expires ${ago(io, node.certificateExpiresAt)}`],
			]).trimEnd(),
		);
	},
};

const why: Command = {
	name: 'node why',
	summary: 'Explain the state of a node: what was found, what happens next, what you can do',
	usage: 'NODE',
	examples: [['gpuaas node why gpu-07', 'Why is it not taking tasks?']],
	async run(args, io) {
		const [name = ''] = take(why, args, 'NODE');
		const { client } = await connect(io, args);
		const response = await client(NodeService).explainNode({ node: name });
		if (args.flag('json')) {
			await printJson(io, json(ExplainNodeResponseSchema, response));
			return EXIT.ok;
		}
		const node = response.node;
		if (node !== undefined) await write(io.stdout, `${paint(io, 'bold', node.name)}: ${stateOf(node)}\n`);
		for (const entry of response.explanations) {
			const deadline = entry.deadline === undefined ? '' : ` (${ago(io, entry.deadline)})`;
			await write(io.stdout, `  ${entry.subject}: ${entry.finding}\n`);
			if (entry.next !== '') await write(io.stdout, `      next: ${entry.next}${deadline}\n`);
		}
		return EXIT.ok;
	},
};

const label: Command = {
	name: 'node label',
	summary: 'Set or remove labels of a node',
	usage: 'NODE K=V|K- ...',
	examples: [['gpuaas node label gpu-07 rack=r3 spare-', 'Set rack, remove spare']],
	async run(args, io) {
		const [name, ...changes] = args.positionals;
		if (name === undefined || changes.length === 0) throw usageError(label, 'name a node and at least one K=V or K-');
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).getNode({ node: name });
		if (node === undefined) return EXIT.failed;
		const next = { ...node.labels };
		for (const change of changes) {
			if (change.endsWith('-') && !change.includes('=')) delete next[change.slice(0, -1)];
			else Object.assign(next, pairs(label, 'label', [change]));
		}
		const response = await client(NodeService).setNodeLabels({ node: node.id, labels: next, etag: node.etag });
		return report(args, io, response.node, `${node.name}: ${labels(next)}`);
	},
};

const REASON = { reason: { type: 'string', value: 'TEXT', help: 'Why; goes into the audit log' } } as const;

const cordon: Command = {
	name: 'node cordon',
	summary: 'Let a node take no new tasks; what runs goes on',
	usage: 'NODE',
	options: REASON,
	examples: [['gpuaas node cordon gpu-07 --reason "fan noise"', 'Until: gpuaas node uncordon gpu-07']],
	async run(args, io) {
		const [name = ''] = take(cordon, args, 'NODE');
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).cordonNode({ node: name, reason: args.text('reason') ?? '' });
		return report(args, io, node, `${node?.name ?? name} is cordoned`);
	},
};

const uncordon: Command = {
	name: 'node uncordon',
	summary: 'Let a node take tasks again',
	usage: 'NODE',
	examples: [['gpuaas node uncordon gpu-07', 'Also ends a drain']],
	async run(args, io) {
		const [name = ''] = take(uncordon, args, 'NODE');
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).uncordonNode({ node: name });
		return report(args, io, node, `${node?.name ?? name} takes tasks again`);
	},
};

const drain: Command = {
	name: 'node drain',
	summary: 'Cordon a node, let its tasks end until a deadline, then cancel them',
	usage: 'NODE',
	options: {
		...REASON,
		deadline: { type: 'string', value: 'DURATION', help: 'How long tasks may go on (default 10m)' },
	},
	examples: [
		['gpuaas node drain gpu-07 --deadline 1h', 'Follow it with: gpuaas operation show ID'],
		['gpuaas node why gpu-07', 'Why is it still draining?'],
	],
	async run(args, io) {
		const [name = ''] = take(drain, args, 'NODE');
		const deadline = durationMs(drain, 'deadline', args.text('deadline'));
		const { client } = await connect(io, args);
		const response = await client(NodeService).drainNode({
			node: name,
			reason: args.text('reason') ?? '',
			...(deadline === undefined ? {} : { deadline: durationFromMs(deadline) }),
			requestId: newRequestId(io),
		});
		if (args.flag('json')) await printJson(io, json(DrainNodeResponseSchema, response));
		else await write(io.stdout, `${response.node?.name ?? name} is draining; operation ${response.operationId}\n`);
		return EXIT.ok;
	},
};

const MODES: Readonly<Record<string, AssignmentMode>> = {
	host: AssignmentMode.HOST,
	slice: AssignmentMode.SLICE,
	operator: AssignmentMode.OPERATOR,
};

const assign: Command = {
	name: 'node assign',
	summary: 'Give a node to a project',
	usage: 'NODE ORGANIZATION/PROJECT',
	description:
		"In host mode the project gets the whole machine and custody becomes the tenant's: the platform runs nothing on it and believes its agent nothing until it is taken back. In operator and slice mode custody stays with the platform.",
	options: { mode: { type: 'string', value: 'host|slice|operator', help: 'Default operator' } },
	examples: [['gpuaas node assign gpu-07 acme/training --mode host', 'The project sees the node from now on']],
	async run(args, io) {
		const [name = '', project = ''] = take(assign, args, 'NODE', 'ORGANIZATION/PROJECT');
		const mode = MODES[args.text('mode') ?? 'operator'];
		if (mode === undefined) throw usageError(assign, '--mode is host, slice or operator');
		const [organization, projectName, ...more] = project.split('/');
		if (!organization || !projectName || more.length > 0)
			throw usageError(assign, `${JSON.stringify(project)} is not ORGANIZATION/PROJECT`);
		const { client } = await connect(io, args);
		const { assignment } = await client(NodeService).assignNode({
			node: name,
			organization,
			project: projectName,
			mode,
			requestId: newRequestId(io),
		});
		if (args.flag('json'))
			await printJson(io, { assignment: assignment === undefined ? null : json(AssignmentSchema, assignment) });
		else await write(io.stdout, `${name} is assigned to ${project} (${assignment?.id ?? ''})\n`);
		return EXIT.ok;
	},
};

const unassign: Command = {
	name: 'node unassign',
	summary: 'End the assignment of a node, and the tasks made under it',
	usage: 'NODE',
	options: REASON,
	examples: [['gpuaas node unassign gpu-07', 'The project sees the node no longer']],
	async run(args, io) {
		const [name = ''] = take(unassign, args, 'NODE');
		const { client } = await connect(io, args);
		const { assignment } = await client(NodeService).unassignNode({
			node: name,
			reason: args.text('reason') ?? '',
			requestId: newRequestId(io),
		});
		if (args.flag('json'))
			await printJson(io, { assignment: assignment === undefined ? null : json(AssignmentSchema, assignment) });
		else {
			const until = assignment?.until === undefined ? '' : ` at ${timestampDate(assignment.until).toISOString()}`;
			await write(io.stdout, `${name}: assignment ${assignment?.id ?? ''} ended${until}\n`);
		}
		return EXIT.ok;
	},
};

const unlock: Command = {
	name: 'node unlock',
	summary: 'End the lock of a node whose identity was seen twice, after you looked at it',
	usage: 'NODE --reason TEXT',
	options: REASON,
	examples: [['gpuaas node unlock gpu-07 --reason "restored from a snapshot, the copy is destroyed"', 'Audited']],
	async run(args, io) {
		const [name = ''] = take(unlock, args, 'NODE');
		const reason = args.text('reason');
		if (reason === undefined) throw usageError(unlock, '--reason is missing: it goes into the audit log');
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).unlockNode({ node: name, reason });
		return report(args, io, node, `${node?.name ?? name} is unlocked`);
	},
};

const remove: Command = {
	name: 'node remove',
	summary: 'Retire a node: its certificates are revoked and its stream ends at once',
	usage: 'NODE',
	options: REASON,
	examples: [['gpuaas node remove gpu-07 --reason "sold"', 'It has to enroll again to come back']],
	async run(args, io) {
		const [name = ''] = take(remove, args, 'NODE');
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).removeNode({ node: name, reason: args.text('reason') ?? '' });
		return report(args, io, node, `${node?.name ?? name} is retired; its certificates are revoked`);
	},
};

export const commands: readonly Command[] = [
	list,
	show,
	why,
	label,
	cordon,
	uncordon,
	drain,
	assign,
	unassign,
	unlock,
	remove,
];
