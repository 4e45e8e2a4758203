import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	CreateTaskResponseSchema,
	TaskService,
	type TaskSpec,
	TaskSpecSchema,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { TaskKind, TaskRow } from '../../store/port/tasks.ts';
import { projectName } from '../iam/resource-name.ts';
import { ownerOf } from '../nodes/admission.ts';
import { IN_CUSTODY, ROOM_FOR_TASK, TAKES_WORK } from '../nodes/gates.ts';
import { takeQuota } from '../quotas/reserve.ts';
import { type Call, mutation } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { taskMessage } from './view.ts';

/** argv and env together, as execve counts them (bytes, NUL and pointer of each): half of Linux's usual 2 MiB. */
export const ARGUMENTS_BYTES_MAX = 1024 * 1024;
/** Of the argv text kept beside its commitment in the audit log. */
const AUDIT_ARGV_CHARS_MAX = 4096;

/** Stores a task for a node's agent, with the assignment that it is made under. */
export const createTask = mutation('node', TaskService.method.createTask, {
	gates: [TAKES_WORK, IN_CUSTODY, ROOM_FOR_TASK],
	*apply(tx, call, target) {
		const { deps, ctx, request, nowMs } = call;
		const spec = checkedSpec(request.spec);
		const { node } = target;
		const owner = ownerOf(target);
		const id = uuidv7(nowMs, deps.rng);
		const { limits } = deps;
		const row = queuedTask(call, node, owner, {
			id,
			spec,
			attemptsMax: request.maxAttempts === 0 ? 1 : request.maxAttempts,
			timeoutMs: msFromDuration(request.timeout) ?? limits.taskTimeoutDefaultMs,
			outputBytesMax: request.outputBytesMax === 0n ? limits.outputBytesDefaultMax : Number(request.outputBytesMax),
			queueTimeoutMs: msFromDuration(request.queueTimeout) ?? limits.queueTimeoutDefaultMs,
			batchId: request.batchId,
		});
		yield* tx.tasks.insert(row);
		// What the platform's own people do on a tenant's node is not the tenant's use.
		if (owner !== undefined && target.isHolder) {
			const { organization } = owner;
			const wish = { kind: 'tasks', holder: id, scope: projectName(owner), organization, amount: 1, nowMs } as const;
			yield* takeQuota(tx, wish);
		}
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

function checkedSpec(spec: TaskSpec | undefined): TaskSpec {
	if (spec?.kind.case === undefined) throw unusableSpec('the request names no kind of task; set spec.run or another');
	if (spec.kind.case === 'injectFault')
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'FAULT_INJECTION_FORBIDDEN',
			message:
				'faults are injected by InjectNodeFault alone (gpuaas fault inject), which checks the label of the node; nothing was done',
		});
	checkArguments(spec);
	return create(TaskSpecSchema, spec);
}

export interface NewTask {
	readonly id: string;
	readonly spec: TaskSpec;
	readonly attemptsMax: number;
	readonly timeoutMs: number;
	readonly outputBytesMax: number;
	readonly queueTimeoutMs: number;
	readonly batchId: string;
}

/** The row of a task that nobody has taken up yet. */
export function queuedTask(
	{ ctx, nowMs }: Pick<Call<unknown>, 'ctx' | 'nowMs'>,
	node: NodeRow,
	owner: AssignmentRow | undefined,
	task: NewTask,
): TaskRow {
	return {
		id: task.id,
		nodeId: node.id,
		state: 'queued',
		kind: kindOf(task.spec),
		spec: toBinary(TaskSpecSchema, task.spec),
		createdBy: ctx.actor.id,
		attempt: 0,
		attemptsMax: task.attemptsMax,
		fencingToken: 0,
		timeoutMs: task.timeoutMs,
		outputBytesMax: task.outputBytesMax,
		createdAtMs: nowMs,
		queueDeadlineMs: nowMs + task.queueTimeoutMs,
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
		batchId: task.batchId,
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
		case 'injectFault':
			return 'inject_fault';
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

function unusableSpec(message: string): GpuaasError {
	return new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message });
}
