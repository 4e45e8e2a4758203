import { timestampDate } from '@bufbuild/protobuf/wkt';
import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	AssignmentMode,
	AssignmentSchema,
	Connection,
	ExplainNodeResponseSchema,
	type Node,
	NodeSchema,
	NodeService,
	NodeState,
} from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { collect, connect } from '../client.ts';
import { type Arguments, type Command, pairs, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { glanceText } from '../health/show-verdict.ts';
import { type Io, paint, printJson, printTable, write } from '../io.ts';
import { byNodeName } from '../node-order.ts';
import { newRequestId } from '../request-id.ts';
import { ago, enumName, fields, json, labels, when } from '../show.ts';
import { drain, REASON } from './node-drain.ts';
import { nodeHealth } from './node-health.ts';
import { inventory } from './node-inventory.ts';

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
	summary: 'List nodes, by name',
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
		const { items: unsorted } = await collect(
			(pageToken) => client(NodeService).listNodes({ pageToken, pageSize: 1000, selector }),
			(response) => response.nodes,
			100_000,
		);
		const items = unsorted.toSorted(byNodeName);
		if (args.flag('json')) {
			await printJson(io, { nodes: items.map((node) => json(NodeSchema, node)) });
			return EXIT.ok;
		}
		await printTable(
			io,
			['NAME', 'STATE', 'HEALTH', 'CONNECTION', 'CUSTODY', 'ASSIGNED TO', 'AGENT', 'LABELS'],
			items.map((node) => [
				node.name,
				stateOf(node),
				glanceText(io, node.health),
				enumName(Connection, node.connection),
				enumName(Custody, node.custody),
				node.assignment === undefined ? '-' : `${node.assignment.organization}/${node.assignment.project}`,
				node.agentVersion || '-',
				labels(node.labels),
			]),
			'no nodes that you may see; operators enroll hosts (gpuaas token create) and assign them to projects (gpuaas node assign)',
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
				['health', node.health === undefined ? '' : glanceText(io, node.health)],
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
				['devices', devicesText(node.capabilities)],
				['enrolled', when(io, node.enrolledAt)],
				[
					'certificate',
					node.certificateExpiresAt === undefined ? '' : `expires ${when(io, node.certificateExpiresAt)}`,
				],
			]).trimEnd(),
		);
	},
};

const HELD_BY: Readonly<Record<string, string>> = {
	bpf: 'tenants are held to theirs by eBPF on cgroup v2',
	cgroup1: 'tenants are held to theirs by the devices controller of cgroup v1',
	none: 'nothing on this host can hold tenants to theirs',
	off: 'tenants are not held to any, by the policy of the node',
	user_managers:
		'accounts of tenants may start user managers of systemd, whose programs are held to nothing: see gpuaas agent status there',
};

/** Of what the agent said that it can do (host-side.ts there); an older one says nothing. */
function devicesText(capabilities: readonly string[]): string {
	const said = capabilities.filter((each) => each.startsWith('devices.')).map((each) => each.slice('devices.'.length));
	return said.map((each) => HELD_BY[each] ?? each).join('; ');
}

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
		const wrong = changes.find((change) => !/^[^=]+=|^[^=]+-$/.test(change));
		if (wrong !== undefined)
			throw usageError(label, `${JSON.stringify(wrong)} is neither K=V, which sets a label, nor K-, which removes one`);
		const { client } = await connect(io, args);
		const { node } = await client(NodeService).getNode({ node: name });
		if (node === undefined) return EXIT.failed;
		const next = { ...node.labels };
		for (const change of changes) {
			if (change.includes('=')) Object.assign(next, pairs(label, 'label', [change]));
			else delete next[change.slice(0, -1)];
		}
		const response = await client(NodeService).setNodeLabels({ node: node.id, labels: next, etag: node.etag });
		return report(args, io, response.node, `${node.name}: ${labels(next)}`);
	},
};

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
	nodeHealth,
	inventory,
	label,
	cordon,
	uncordon,
	drain,
	assign,
	unassign,
	unlock,
	remove,
];
