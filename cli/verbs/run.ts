import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { Connection, type Node, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import {
	OutputStream,
	type Task,
	TaskSchema,
	TaskService,
	TaskState,
} from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { assertTyped } from '../argument-bytes.ts';
import { type Api, collect, connect } from '../client.ts';
import { type Arguments, type Command, durationMs, pairs, takeProgram, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printable, printJson, write } from '../io.ts';
import { LinePrefixer } from '../line-prefixer.ts';
import { byNodeName } from '../node-order.ts';
import { newRequestId } from '../request-id.ts';
import { enumName, json } from '../show.ts';
import { copyOutput, exitCodeOf, followTask, outputEvent } from '../task-stream.ts';

/** Tasks that are created and followed at once; more wait their turn. */
const PARALLEL_MAX = 64;

const run: Command = {
	name: 'run',
	summary: 'Run a program on one or several nodes and stream its output',
	usage: '-- ARGV...',
	description:
		'The program is started without a shell, as the user that the policy of the node names. Its output comes as it is, stdout apart from stderr; with several nodes each line is prefixed with the name of its node. Ctrl-C cancels; a second Ctrl-C leaves it running.',
	options: {
		node: {
			type: 'string',
			short: 'n',
			multiple: true,
			value: 'NODE',
			help: 'Name or id; may be repeated (default: the only node)',
		},
		selector: {
			type: 'string',
			short: 'l',
			multiple: true,
			value: 'K=V',
			help: 'Nodes with this label; may be repeated',
		},
		all: { type: 'boolean', help: 'Every connected node that takes tasks' },
		timeout: { type: 'string', value: 'DURATION', help: 'Kill it after this time (default 24h)' },
		env: {
			type: 'string',
			short: 'e',
			multiple: true,
			value: 'K=V',
			help: 'Environment variable; not for secrets, it is stored in clear with the task; may be repeated',
		},
		user: { type: 'string', short: 'u', value: 'USER', help: 'Local account, if the policy of the node allows it' },
		cwd: { type: 'string', value: 'DIR', help: 'Working directory' },
		'max-attempts': {
			type: 'string',
			value: 'N',
			help: 'Try again when it was proven not to have started (default 1)',
		},
		detach: { type: 'boolean', short: 'd', help: 'Print the task id and leave it running' },
	},
	examples: [
		["gpuaas run -- sh -c 'echo hi; exit 3'", 'Prints hi and exits with 3'],
		['gpuaas run --all -- uptime', 'On every node, lines prefixed by node'],
		['gpuaas run -n gpu-07 --timeout 5m -- nvidia-smi', 'On one node, at most five minutes'],
		['gpuaas run -d -n gpu-07 -- /opt/train.sh', 'Follow it later with: gpuaas task logs -f ID'],
	],
	failureExit: EXIT.taskFailed,
	exitCodes: [
		"the program's own, with one node",
		'the first that is not 0 by node name, with several',
		'124 timeout',
		'125 also not run or lost',
		'128+n ended by signal n',
		'130 interrupted',
	],
	async run(args, io) {
		takeProgram(run, args);
		await assertTyped(args.rest ?? [], [
			...['env', 'node', 'selector'].flatMap((name) => args.texts(name)),
			...['user', 'cwd'].map((name) => args.text(name) ?? ''),
		]);
		const api = await connect(io, args);
		const nodes = await chooseNodes(args, api);
		const batchId = nodes.length > 1 ? uuidv7(io.clock.now(), io.rng) : '';
		if (args.flag('detach')) return detach(args, io, api, nodes, batchId);
		const results = await eachNode(nodes, (node) => runOn(args, io, api, node, batchId, nodes.length > 1));
		if (io.force.aborted) return EXIT.interrupted;
		return results.find((code) => code !== EXIT.ok) ?? EXIT.ok;
	},
};

function takesTasks(node: Node): boolean {
	return node.connection === Connection.CONNECTED && !node.cordoned && !node.locked;
}

/** Sorted by name: the exit code of several is the first non-zero one in this order. */
async function chooseNodes(args: Arguments, api: Api): Promise<readonly Pick<Node, 'id' | 'name'>[]> {
	const named = args.texts('node');
	const selector = pairs(run, 'selector', args.texts('selector'));
	const ways = [named.length > 0, Object.keys(selector).length > 0, args.flag('all')].filter(Boolean).length;
	if (ways > 1) throw usageError(run, 'choose one of --node, --selector and --all');
	if (named.length > 0) return namedNodes(api, [...new Set(named)]);
	const { items } = await collect(
		(pageToken) => api.client(NodeService).listNodes({ pageToken, pageSize: 1000, selector }),
		(response) => response.nodes,
		100_000,
	);
	const usable = items.filter(takesTasks).sort(byNodeName);
	if (ways === 0 && items.length > 1) {
		throw usageError(run, `there are ${items.length} nodes; say which with --node, --selector or --all`);
	}
	if (ways === 0 && items.length === 1) return items;
	if (usable.length > 0) return usable;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_NOT_FOUND',
		message:
			items.length === 0
				? ways === 0
					? 'there is no node that you may see; operators enroll hosts and assign them to projects'
					: 'no node matches; see: gpuaas node list'
				: `none of the ${items.length} matching nodes takes tasks now; see: gpuaas node list, gpuaas node why NODE`,
	});
}

/** Each node once, however often it was named, by name or by id. One that isn't there ends it before anything is started. */
async function namedNodes(api: Api, named: readonly string[]): Promise<readonly Pick<Node, 'id' | 'name'>[]> {
	// One needs no name: it has no prefix and no neighbours.
	if (named.length === 1) return named.map((name) => ({ id: name, name }));
	const found = await eachNode(named, (name) =>
		api
			.client(NodeService)
			.getNode({ node: name })
			.catch((thrown: unknown) => {
				const { code, reason, message, metadata } = GpuaasError.from(thrown);
				throw new GpuaasError({ code, reason, message: `node ${name}: ${message}`, metadata, cause: thrown });
			}),
	);
	const nodes = new Map(found.flatMap(({ node }) => (node === undefined ? [] : [[node.id, node] as const])));
	return [...nodes.values()].sort(byNodeName);
}

/** Calls `work` for each node, at most PARALLEL_MAX at once; answers in the order of `nodes`. */
async function eachNode<N, T>(nodes: readonly N[], work: (node: N) => Promise<T>): Promise<readonly T[]> {
	const results: T[] = new Array(nodes.length);
	let next = 0;
	const worker = async () => {
		while (next < nodes.length) {
			const index = next++;
			results[index] = await work(nodes[index] as N);
		}
	};
	await Promise.all(Array.from({ length: Math.min(PARALLEL_MAX, nodes.length) }, worker));
	return results;
}

async function createTask(args: Arguments, io: Io, api: Api, node: string, batchId: string): Promise<Task> {
	const timeoutMs = durationMs(run, 'timeout', args.text('timeout'));
	const attempts = Number(args.text('max-attempts') ?? '1');
	if (!Number.isInteger(attempts) || attempts < 1 || attempts > 10)
		throw usageError(run, '--max-attempts is a number from 1 to 10');
	const { task } = await api.client(TaskService).createTask({
		node,
		spec: {
			kind: {
				case: 'run',
				value: {
					argv: [...(args.rest ?? [])],
					env: pairs(run, 'env', args.texts('env')),
					user: args.text('user') ?? '',
					cwd: args.text('cwd') ?? '',
				},
			},
		},
		...(timeoutMs === undefined ? {} : { timeout: durationFromMs(timeoutMs) }),
		maxAttempts: attempts,
		batchId,
		requestId: newRequestId(io),
	});
	if (task === undefined)
		throw new GpuaasError({
			code: 'INTERNAL',
			reason: 'INTERNAL',
			message: 'the control plane answered without a task',
		});
	return task;
}

async function detach(
	args: Arguments,
	io: Io,
	api: Api,
	nodes: readonly Pick<Node, 'id' | 'name'>[],
	batchId: string,
): Promise<number> {
	const tasks = await eachNode(nodes, (node) => createTask(args, io, api, node.id, batchId));
	if (args.flag('json')) await printJson(io, { batchId, tasks: tasks.map((task) => json(TaskSchema, task)) });
	else await write(io.stdout, `${tasks.map((task) => task.id).join('\n')}\n`);
	return EXIT.ok;
}

async function runOn(
	args: Arguments,
	io: Io,
	api: Api,
	node: Pick<Node, 'id' | 'name'>,
	batchId: string,
	several: boolean,
): Promise<number> {
	try {
		const task = await createTask(args, io, api, node.id, batchId);
		if (args.flag('json')) await printJson(io, { event: 'created', taskId: task.id, node: task.nodeName });
		const ended = await follow(args, io, api, task, several ? node.name : '');
		return ended === undefined ? EXIT.interrupted : await conclude(args, io, ended, several);
	} catch (error) {
		// With several nodes one that refuses must not hide how the others ended.
		if (!several) throw error;
		const { code, reason, message } = GpuaasError.from(error);
		if (args.flag('json')) await printJson(io, { event: 'error', node: node.name, error: { code, reason, message } });
		else await write(io.stderr, `${printable(node.name)} | gpuaas: ${printable(message)}\n`);
		return EXIT.taskFailed;
	}
}

async function follow(args: Arguments, io: Io, api: Api, task: Task, prefix: string): Promise<Task | undefined> {
	const client = api.client(TaskService);
	const stdout = new LinePrefixer(prefix, (bytes) => write(io.stdout, bytes));
	const stderr = new LinePrefixer(prefix, (bytes) => write(io.stderr, bytes));
	const cancel = () => {
		void write(io.stderr, `gpuaas: cancelling ${task.id}; Ctrl-C again leaves it running\n`);
		client.cancelTask({ taskId: task.id }).catch((error: unknown) => {
			void write(io.stderr, `gpuaas: it could not be cancelled: ${GpuaasError.from(error).message}\n`);
		});
	};
	if (io.interrupt.aborted) cancel();
	io.interrupt.addEventListener('abort', cancel, { once: true });
	try {
		return await followTask(
			io,
			client,
			task.id,
			0n,
			{
				output: async (chunk) => {
					if (args.flag('json')) {
						await printJson(io, { ...outputEvent(task.id, chunk), node: task.nodeName });
					} else if (prefix === '') await copyOutput(io, chunk);
					else await (chunk.stream === OutputStream.STDERR ? stderr : stdout).write(chunk.data);
				},
				outage: (error) => write(io.stderr, `gpuaas: ${printable(error.message)}; the task goes on, trying again\n`),
			},
			io.force,
		);
	} finally {
		io.interrupt.removeEventListener('abort', cancel);
		await stdout.end();
		await stderr.end();
	}
}

async function conclude(args: Arguments, io: Io, task: Task, several: boolean): Promise<number> {
	const code = exitCodeOf(task);
	if (args.flag('json')) {
		await printJson(io, { event: 'ended', exitCode: code, task: json(TaskSchema, task) });
		return code;
	}
	const spoke = task.state === TaskState.SUCCEEDED || (task.state === TaskState.FAILED && task.exitCode !== undefined);
	const who = several ? `${printable(task.nodeName)} | ` : '';
	if (!spoke) {
		const what = enumName(TaskState, task.state);
		// A reason that only says the state once more says nothing.
		const reason = task.reason === what.toUpperCase().replaceAll(' ', '_') ? '' : task.reason;
		const message = task.message === '' ? reason : task.message;
		await write(io.stderr, `${who}gpuaas: task ${task.id} ${what}${message === '' ? '' : `: ${printable(message)}`}\n`);
	} else if (several && code !== EXIT.ok) await write(io.stderr, `${who}gpuaas: exit code ${code}\n`);
	return code;
}

export const commands: readonly Command[] = [run];
