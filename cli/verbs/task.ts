import { readFile } from 'node:fs/promises';
import { toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../kit/error.ts';
import {
	GetTaskReceiptResponseSchema,
	type OutputChunk,
	type Task,
	TaskSchema,
	TaskService,
	TaskState,
} from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, durationMs, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { readReceiptFile, verifyReceipt } from '../receipt.ts';
import { ago, enumName, fields, json, when } from '../show.ts';
import { signalName } from '../signal-name.ts';
import { copyOutput, followTask, hasEnded, outputEvent } from '../task-stream.ts';

function commandOf(task: Task): string {
	const kind = task.spec?.kind;
	if (kind?.case === 'run')
		return kind.value.argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(' ');
	return kind?.case === undefined ? '' : kind.case.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function resultOf(task: Task): string {
	if (task.exitCode !== undefined) return `exit ${task.exitCode}`;
	if (task.signal !== undefined) return signalName(task.signal);
	return task.reason === '' ? '-' : task.reason;
}

function cut(text: string, length: number): string {
	return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

const list: Command = {
	name: 'task list',
	summary: 'List tasks, newest first',
	options: {
		node: { type: 'string', short: 'n', value: 'NODE', help: 'Only of this node' },
		limit: { type: 'string', value: 'N', help: 'At most this many (default 50)' },
	},
	examples: [['gpuaas task list -n gpu-07 --limit 10', 'The last ten of one node']],
	async run(args, io) {
		take(list, args);
		const limit = Number(args.text('limit') ?? '50');
		if (!Number.isInteger(limit) || limit < 1) throw usageError(list, '--limit is a whole number from 1');
		const { client } = await connect(io, args);
		const { items, more } = await collect(
			(pageToken) =>
				client(TaskService).listTasks({ pageToken, pageSize: Math.min(limit, 1000), node: args.text('node') ?? '' }),
			(response) => response.tasks,
			limit,
		);
		if (args.flag('json')) {
			await printJson(io, { tasks: items.map((task) => json(TaskSchema, task)), more });
			return EXIT.ok;
		}
		await printTable(
			io,
			['ID', 'NODE', 'STATE', 'RESULT', 'CREATED', 'COMMAND'],
			items.map((task) => [
				task.id,
				task.nodeName,
				enumName(TaskState, task.state),
				resultOf(task),
				ago(io, task.createdAt),
				cut(commandOf(task), 60),
			]),
			args.text('node') === undefined
				? 'no tasks yet; run one with: gpuaas run -- hostname'
				: `no tasks on ${args.text('node')}; nodes are listed by: gpuaas node list`,
		);
		if (more) await write(io.stderr, `more tasks exist; raise --limit ${limit}\n`);
		return EXIT.ok;
	},
};

const show: Command = {
	name: 'task show',
	summary: 'Show one task',
	usage: 'ID',
	examples: [['gpuaas task show 0190...', 'State, result, who and when']],
	async run(args, io) {
		const [taskId = ''] = take(show, args, 'ID');
		const { client } = await connect(io, args);
		const { task } = await client(TaskService).getTask({ taskId });
		if (task === undefined) return EXIT.failed;
		if (args.flag('json')) {
			await printJson(io, { task: json(TaskSchema, task) });
			return EXIT.ok;
		}
		const dropped = task.outputDroppedBytes > 0n ? `, ${task.outputDroppedBytes} beyond the cap left out` : '';
		await write(
			io.stdout,
			fields([
				['task', task.id],
				['node', task.nodeName],
				['state', enumName(TaskState, task.state)],
				['result', resultOf(task)],
				['message', task.message],
				['command', commandOf(task)],
				['attempt', `${task.attempt} of ${task.maxAttempts}`],
				['created', `${when(io, task.createdAt)} by ${task.createdBy}`],
				['started', task.startedAt === undefined ? '' : when(io, task.startedAt)],
				['ended', task.endedAt === undefined ? '' : when(io, task.endedAt)],
				['output', `${task.outputBytes} bytes${dropped}`],
				['limits by', task.limitsEnforcedBy],
				[
					'assignment',
					task.assignment === undefined ? '' : `${task.assignment.organization}/${task.assignment.project}`,
				],
				['correlation id', task.correlationId],
			]),
		);
		return EXIT.ok;
	},
};

const logs: Command = {
	name: 'task logs',
	summary: 'Print the output of a task, stdout to stdout and stderr to stderr',
	usage: 'ID',
	options: { follow: { type: 'boolean', short: 'f', help: 'Go on until the task has ended' } },
	examples: [['gpuaas task logs -f 0190...', 'From the beginning, then live']],
	async run(args, io) {
		const [taskId = ''] = take(logs, args, 'ID');
		const { client } = await connect(io, args);
		const tasks = client(TaskService);
		const print = (chunk: OutputChunk) =>
			args.flag('json') ? printJson(io, outputEvent(taskId, chunk)) : copyOutput(io, chunk);
		if (args.flag('follow')) {
			await followTask(io, tasks, taskId, 0n, { output: print }, io.interrupt);
			return io.interrupt.aborted ? EXIT.interrupted : EXIT.ok;
		}
		let offset = 0n;
		for (;;) {
			const page = await tasks.listTaskOutput({ taskId, offset });
			for (const chunk of page.chunks) await print(chunk);
			if (page.nextOffset === offset) return EXIT.ok;
			offset = page.nextOffset;
		}
	},
};

const cancel: Command = {
	name: 'task cancel',
	summary: 'Cancel a task: SIGTERM to its process group, then SIGKILL',
	usage: 'ID',
	options: { grace: { type: 'string', value: 'DURATION', help: 'Between SIGTERM and SIGKILL (default 10s)' } },
	examples: [['gpuaas task cancel 0190... --grace 1m', 'Give it a minute to save its work']],
	async run(args, io) {
		const [taskId = ''] = take(cancel, args, 'ID');
		const graceMs = durationMs(cancel, 'grace', args.text('grace'));
		const { client } = await connect(io, args);
		const { task } = await client(TaskService).cancelTask({
			taskId,
			...(graceMs === undefined ? {} : { grace: durationFromMs(graceMs) }),
		});
		if (args.flag('json')) await printJson(io, { task: task === undefined ? null : json(TaskSchema, task) });
		else {
			const state = task === undefined ? 'unknown' : enumName(TaskState, task.state);
			const isLate = task !== undefined && hasEnded(task) && task.state !== TaskState.CANCELLED;
			await write(io.stdout, `task ${taskId}: ${isLate ? 'already ended, ' : ''}${state}\n`);
		}
		return EXIT.ok;
	},
};

const receipt: Command = {
	name: 'task receipt',
	summary: 'Save what the agent was told and what it signed',
	usage: 'ID',
	examples: [
		['gpuaas task receipt 0190... > receipt.bin', 'Check it anywhere with: gpuaas task receipt verify receipt.bin'],
	],
	async run(args, io) {
		const [taskId = ''] = take(receipt, args, 'ID');
		const { client } = await connect(io, args);
		const response = await client(TaskService).getTaskReceipt({ taskId });
		if (args.flag('json')) await printJson(io, json(GetTaskReceiptResponseSchema, response));
		else if (io.stdout.isTTY === true) {
			throw new GpuaasError({
				code: 'INVALID_ARGUMENT',
				reason: 'INVALID_REQUEST',
				message:
					'a receipt is binary: send it to a file with > FILE, or see it with --json; check one with: gpuaas task receipt verify',
			});
		} else await write(io.stdout, toBinary(GetTaskReceiptResponseSchema, response));
		return EXIT.ok;
	},
};

const verify: Command = {
	name: 'task receipt verify',
	summary: 'Check signatures and hash links of a receipt, from a file or from the control plane',
	usage: 'ID|FILE',
	description:
		'Proves that this envelope was signed by the task-signing key, and that the key of the node signed this result for exactly this envelope. It does not prove that the program did what its owner believes.',
	options: {
		ca: { type: 'string', value: 'FILE', help: 'PEM with the roots to trust (default: those of the context)' },
	},
	examples: [
		['gpuaas task receipt verify 0190...', 'Fetch it and check it here'],
		['gpuaas task receipt verify receipt.bin --ca ca.pem', 'Without any control plane'],
	],
	exitCodes: ['1 also when anything is not as signed'],
	async run(args, io) {
		const [which = ''] = take(verify, args, 'ID|FILE');
		const caFile = args.text('ca');
		const fromFile = await readReceiptFile(which);
		const api = fromFile === undefined || caFile === undefined ? await connect(io, args) : undefined;
		const roots = caFile === undefined ? (api?.context.caPem ?? '') : await readFile(caFile, 'utf8');
		const document = fromFile ?? (await api?.client(TaskService).getTaskReceipt({ taskId: which }));
		if (document === undefined) throw usageError(verify, `${which} is neither a file nor a task`);
		const checked = verifyReceipt(document, roots);
		if (args.flag('json')) await printJson(io, checked);
		else await write(io.stdout, `${checked.ok ? 'verified' : 'NOT verified'}: ${checked.findings.join('; ')}\n`);
		return checked.ok ? EXIT.ok : EXIT.failed;
	},
};

export const commands: readonly Command[] = [list, show, logs, cancel, receipt, verify];
