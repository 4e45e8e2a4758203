import { createHash } from 'node:crypto';
import { create, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	type CreateTaskRequestSchema,
	CreateTaskResponseSchema,
	TaskService,
	type TaskSpec,
	TaskSpecSchema,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { TaskKind, TaskRow } from '../../store/port/tasks.ts';
import { holdsInProject } from '../iam/decide.ts';
import { type Call, mutation } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { taskMessage } from './view.ts';

/** argv and env together, as execve counts them (bytes, NUL and pointer of each): half of Linux's usual 2 MiB. */
export const ARGUMENTS_BYTES_MAX = 1024 * 1024;
/** Of the argv text kept beside its commitment in the audit log. */
const AUDIT_ARGV_CHARS_MAX = 4096;

/** Stores a task for a node's agent, with the assignment that it is made under. */
export const createTask = mutation('node', TaskService.method.createTask, {
	prepare({ deps, request, nowMs }) {
		const spec = request.spec;
		if (spec?.kind.case === undefined) throw unusableSpec('the request names no kind of task; set spec.run or another');
		checkArguments(spec);
		const canonical = create(TaskSpecSchema, spec);
		return { id: uuidv7(nowMs, deps.rng), spec: canonical, specBytes: toBinary(TaskSpecSchema, canonical) };
	},
	*apply(tx, call, { node, assignment }, { id, spec, specBytes }) {
		const { deps, ctx } = call;
		const owner = ownerOf(call, node, assignment);
		checkNodeTakesWork(node);
		checkCustody(node, owner);
		if ((yield* tx.tasks.countOpen(node.id)) >= deps.limits.tasksOpenPerNodeMax)
			throw queueFull(deps.limits.tasksOpenPerNodeMax);
		const row = newRow(call, node, owner, { id, spec, specBytes });
		yield* tx.tasks.insert(row);
		return {
			response: create(CreateTaskResponseSchema, { task: taskMessage(row, node.name) }),
			audit: {
				action: 'tasks.create',
				target: `tasks/${id}`,
				result: 'ok',
				reason: '',
				detail: { node: node.id, kind: row.kind, batch: row.batchId },
				personal: personalOf(spec),
				...(owner === undefined ? {} : { organization: owner.organization }),
			},
			events: [{ topic: 'tasks.queued', key: node.id }],
			effects: () => ctx.log.debug('task queued', { task: id, node: node.id }),
		};
	},
});

type CreateCall = Call<MessageShape<typeof CreateTaskRequestSchema>>;

/**
 * The assignment that the task belongs to: that of a caller who works in its project, and any in operator mode. What
 * the platform itself does on a tenant's slice host is not the tenant's task.
 */
function ownerOf({ ctx }: CreateCall, node: NodeRow, assignment: AssignmentRow | undefined): AssignmentRow | undefined {
	if (assignment === undefined) return undefined;
	if (assignment.mode === 'operator' && node.custody === 'platform') return assignment;
	return holdsInProject(ctx.actor, 'tasks.create', assignment) ? assignment : undefined;
}

function newRow(
	{ deps, ctx, request, nowMs }: CreateCall,
	node: NodeRow,
	owner: AssignmentRow | undefined,
	task: { readonly id: string; readonly spec: TaskSpec; readonly specBytes: Uint8Array },
): TaskRow {
	const { limits } = deps;
	return {
		id: task.id,
		nodeId: node.id,
		state: 'queued',
		kind: kindOf(task.spec),
		spec: task.specBytes,
		createdBy: ctx.actor.id,
		attempt: 0,
		attemptsMax: request.maxAttempts === 0 ? 1 : request.maxAttempts,
		fencingToken: 0,
		timeoutMs: msFromDuration(request.timeout) ?? limits.taskTimeoutDefaultMs,
		outputBytesMax: request.outputBytesMax === 0n ? limits.outputBytesDefaultMax : Number(request.outputBytesMax),
		createdAtMs: nowMs,
		queueDeadlineMs: nowMs + (msFromDuration(request.queueTimeout) ?? limits.queueTimeoutDefaultMs),
		leaseUntilMs: null,
		acceptedAtMs: null,
		startedAtMs: null,
		endedAtMs: null,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		outputBytes: 0,
		outputDroppedBytes: 0,
		outputComplete: false,
		limitsEnforcedBy: '',
		cancelRequestedAtMs: null,
		cancelGraceMs: null,
		batchId: request.batchId,
		correlationId: ctx.correlationId,
		custody: node.custody,
		assignmentId: owner?.id ?? null,
		organization: owner?.organization ?? null,
		project: owner?.project ?? null,
		generation: node.generation,
	};
}

function kindOf(spec: TaskSpec): TaskKind {
	switch (spec.kind.case) {
		case 'collectBundle':
			return 'collect_bundle';
		case 'reboot':
			return 'reboot';
		default:
			return 'run';
	}
}

/** What a person may have typed. `env` is left out: it may hold secrets, even as a commitment of few bits. */
function personalOf(spec: TaskSpec): Record<string, string> {
	if (spec.kind.case !== 'run') return {};
	const { argv, user } = spec.kind.value;
	const text = JSON.stringify(argv);
	const kept = text.length <= AUDIT_ARGV_CHARS_MAX ? text : `sha256:${createHash('sha256').update(text).digest('hex')}`;
	return user === '' ? { argv: kept } : { argv: kept, user };
}

function checkArguments(spec: TaskSpec): void {
	if (spec.kind.case !== 'run') return;
	const { argv, env } = spec.kind.value;
	const strings = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
	let bytes = 0;
	for (const text of strings) {
		if (text.includes('\0'))
			throw unusableSpec('an argument or variable contains a NUL character, which no program can be given');
		bytes += Buffer.byteLength(text) + 1 + 8;
	}
	if (bytes <= ARGUMENTS_BYTES_MAX) return;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'ARGUMENTS_TOO_LARGE',
		message: `argv and env take ${bytes} bytes together and at most ${ARGUMENTS_BYTES_MAX} can be given to a program; put the data into a file on the node`,
		metadata: { bytes: String(bytes), bytes_max: String(ARGUMENTS_BYTES_MAX) },
	});
}

function checkNodeTakesWork(node: NodeRow): void {
	if (node.state === 'retired')
		throw refused('NODE_RETIRED', 'the node was removed; nothing runs there again. Choose another node');
	if (node.locked)
		throw refused(
			'NODE_LOCKED',
			"two holders of this node's identity were seen, so it gets no work; look at the host, then unlock the node",
		);
	if (node.state === 'draining')
		throw refused(
			'NODE_DRAINING',
			'the node is being drained and takes no new work; choose another node or cancel the drain',
		);
	if (node.cordoned)
		throw refused('NODE_CORDONED', 'the node is cordoned and takes no new work; choose another node or uncordon it');
}

function checkCustody(node: NodeRow, owner: AssignmentRow | undefined): void {
	if (node.custody === 'platform' || (node.custody === 'tenant' && owner !== undefined)) return;
	throw refused(
		'NODE_IN_TENANT_CUSTODY',
		'the node is in the hands of a tenant, or was and is not yet reimaged, so it gets no task of the platform; wait until it is back in platform custody',
	);
}

function refused(reason: string, message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason, message });
}

function unusableSpec(message: string): GpuaasError {
	return new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message });
}

function queueFull(tasksMax: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'QUEUE_FULL',
		message: `the node has ${tasksMax} open tasks, which is its limit; wait until some have ended, or choose another node`,
		metadata: { tasks_max: String(tasksMax), 'retry-after': '5' },
	});
}
