import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { sleep } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { DrainNodeResponseSchema, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import {
	type Operation,
	OperationSchema,
	OperationService,
	OperationState,
} from '../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { type Api, connect } from '../client.ts';
import { type Command, durationMs, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printable, printJson, write } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { enumName, json } from '../show.ts';
import { StatusLine } from '../status-line.ts';

export const REASON = { reason: { type: 'string', value: 'TEXT', help: 'Why; goes into the audit log' } } as const;

const POLL_MS = 500;
/** A control plane that restarts is back sooner. */
const OUTAGE_MAX_MS = 60_000;

export const drain: Command = {
	name: 'node drain',
	summary: 'Cordon a node, let its tasks end until a deadline, then cancel them',
	usage: 'NODE',
	options: {
		...REASON,
		deadline: { type: 'string', value: 'DURATION', help: 'How long tasks may go on (default 10m)' },
		wait: { type: 'boolean', help: 'Wait until nothing runs on it; Ctrl-C ends the wait, the drain goes on' },
	},
	examples: [
		['gpuaas node drain gpu-07 --deadline 1h', 'Follow it with: gpuaas operation show ID'],
		['gpuaas node drain gpu-07 --wait && reboot-it', 'Only once nothing runs there'],
		['gpuaas node why gpu-07', 'Why is it still draining?'],
	],
	exitCodes: ['1 also, with --wait, when the drain was cancelled or failed', '130 interrupted, with --wait'],
	async run(args, io) {
		const [name = ''] = take(drain, args, 'NODE');
		const deadline = durationMs(drain, 'deadline', args.text('deadline'));
		const api = await connect(io, args);
		const response = await api.client(NodeService).drainNode({
			node: name,
			reason: args.text('reason') ?? '',
			...(deadline === undefined ? {} : { deadline: durationFromMs(deadline) }),
			requestId: newRequestId(io),
		});
		const { operationId } = response;
		const shown = response.node?.name ?? name;
		const isJson = args.flag('json');
		if (!args.flag('wait')) {
			if (isJson) await printJson(io, json(DrainNodeResponseSchema, response));
			else await write(io.stdout, `${shown} is draining; operation ${operationId}\n`);
			return EXIT.ok;
		}
		if (!isJson) await write(io.stderr, `${printable(shown)} is draining; operation ${operationId}\n`);
		const ended = await untilEnded(io, api, operationId, isJson);
		if (ended === undefined) {
			await write(io.stderr, `gpuaas: no longer waiting; the drain goes on: gpuaas operation show ${operationId}\n`);
			return EXIT.interrupted;
		}
		const isDrained = ended.state === OperationState.SUCCEEDED;
		if (isJson) await printJson(io, { operation: json(OperationSchema, ended) });
		else if (isDrained) await write(io.stdout, `${shown} is drained: ${printable(ended.progress)}\n`);
		else {
			const why = ended.reason || ended.progress;
			await write(io.stderr, `gpuaas: the drain ${enumName(OperationState, ended.state)}: ${printable(why)}\n`);
		}
		return isDrained ? EXIT.ok : EXIT.failed;
	},
};

/** The operation once it has ended; undefined when the person no longer waits. */
async function untilEnded(io: Io, api: Api, operationId: string, isQuiet: boolean): Promise<Operation | undefined> {
	const line = new StatusLine(io, isQuiet);
	let answeredAtMs = io.clock.monotonic();
	try {
		while (!io.interrupt.aborted) {
			const operation = await look(api, operationId).catch((error: unknown) => {
				const isOutage = GpuaasError.from(error).code === 'UNAVAILABLE';
				if (!isOutage || io.clock.monotonic() - answeredAtMs > OUTAGE_MAX_MS) throw error;
				line.show(() => `${GpuaasError.from(error).message}; the drain goes on, trying again`);
				return undefined;
			});
			if (operation !== undefined) {
				answeredAtMs = io.clock.monotonic();
				if (operation.state !== OperationState.RUNNING) return operation;
				line.show(() => printable(operation.progress));
			}
			await sleep(io.clock, POLL_MS, io.interrupt);
		}
		return undefined;
	} finally {
		await line.finish();
	}
}

async function look(api: Api, operationId: string): Promise<Operation | undefined> {
	return (await api.client(OperationService).getOperation({ operationId })).operation;
}
