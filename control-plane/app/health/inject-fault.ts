import { create } from '@bufbuild/protobuf';
import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { INJECTIONS_MAX } from '../../../health/engine.ts';
import { factKindName } from '../../../health/fact-kinds.ts';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { InjectFaultSpecSchema, TaskSpecSchema } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { HealthService, InjectNodeFaultResponseSchema } from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import type { Gate } from '../gates.ts';
import { IN_PLATFORM_CUSTODY, NOT_RETIRED, ROOM_FOR_TASK } from '../nodes/gates.ts';
import { queuedTask } from '../tasks/create.ts';
import { mutation } from '../use-case.ts';

/** The label that a node must have, and its value. */
export const FAULT_LABEL = 'gpuaas.fault-injection';
const ALLOWED = 'allowed';
/** An agent that is away gets it within this, or not at all. */
const QUEUE_TIMEOUT_MS = 60_000;
const OUTPUT_BYTES_MAX = 4096;

/** Throws FAULT_INJECTION_FORBIDDEN. */
const LABELLED: Gate<'node'> = {
	gate: 'label',
	check(_tx, { target: { node } }) {
		if (node.labels[FAULT_LABEL] !== ALLOWED) throw notLabelled(node.name);
		return `it has the label ${FAULT_LABEL}=${ALLOWED}`;
	},
};

/** Past it the engine would drop what it says, and nobody would know why nothing happens. Throws FAULT_INJECTION_LIMIT. */
const FEW_INJECTIONS: Gate<'node'> = {
	gate: 'injections',
	*check(tx, { target: { node }, nowMs }) {
		const count = yield* tx.tasks.countInjections(node.id, nowMs);
		if (count >= INJECTIONS_MAX) throw tooMany(node.name);
		return `${count} of ${INJECTIONS_MAX} injections last`;
	},
};

/**
 * A signed task that lets the agent say that something is wrong; its local policy must list the kind. What it says comes
 * back as any health fact does, marked as simulated and with its end.
 */
export const injectNodeFault = mutation('node', HealthService.method.injectNodeFault, {
	prepare: ({ deps, nowMs }) => uuidv7(nowMs, deps.rng),
	gates: [NOT_RETIRED, LABELLED, IN_PLATFORM_CUSTODY, ROOM_FOR_TASK, FEW_INJECTIONS],
	*apply(tx, call, { node }, id) {
		const { request, nowMs } = call;
		const lastsMs = durationMs(present(request.duration, 'the contract demands it'));
		const endsAtMs = nowMs + lastsMs;
		const endsAt = timestampFromMs(endsAtMs);
		const { faults } = request;
		const spec = create(TaskSpecSchema, {
			kind: { case: 'injectFault', value: create(InjectFaultSpecSchema, { faults, endsAt }) },
		});
		const queueTimeoutMs = Math.min(QUEUE_TIMEOUT_MS, lastsMs);
		const limits = { attemptsMax: 1, timeoutMs: lastsMs, outputBytesMax: OUTPUT_BYTES_MAX, queueTimeoutMs };
		yield* tx.tasks.insert(queuedTask(call, node, undefined, { id, spec, ...limits, batchId: '' }));
		return {
			response: create(InjectNodeFaultResponseSchema, { taskId: id, endsAt }),
			audit: {
				action: 'health.inject',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				custody: node.custody,
				detail: {
					name: node.name,
					task: id,
					until: new Date(endsAtMs).toISOString(),
					faults: faults.map(({ kind, code }) => `${factKindName(kind)} ${code}`.trim()).join(', '),
				},
				personal: { reason: request.reason },
			},
			events: [{ topic: 'tasks.queued', key: node.id }],
		};
	},
});

function notLabelled(name: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'FAULT_INJECTION_FORBIDDEN',
		message: `faults are injected only on nodes with the label ${FAULT_LABEL}=${ALLOWED}, and this node has it not: nothing was done. Where it may break: gpuaas node label ${name} ${FAULT_LABEL}=${ALLOWED}`,
	});
}

function tooMany(name: string): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'FAULT_INJECTION_LIMIT',
		message: `${name} has ${INJECTIONS_MAX} injections that last, as many as a node may; nothing was done. Put several faults into one, or wait until some are over (gpuaas node health ${name})`,
	});
}
