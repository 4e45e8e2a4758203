import { durationFromMs, timestampDate } from '@bufbuild/protobuf/wkt';
import { HealthService, InjectNodeFaultResponseSchema } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type Command, durationMs, usageError } from '../command.ts';
import { define } from '../define.ts';
import { newRequestId } from '../request-id.ts';
import { json } from '../show.ts';
import { gpuSubject } from './health-decisions.ts';

const DURATION_DEFAULT = '10m';
const KINDS = new Map(
	Object.entries(HealthFactKind)
		.filter(([, kind]) => kind !== HealthFactKind.UNSPECIFIED)
		.map(([name, kind]) => [name.toLowerCase(), kind]),
);
/** Of the node, whatever --gpu says. */
const OF_NODE = /^(probe_|kmsg_|disk|host_memory)/;

/** `xid:79`, `gpu_lost:nvml:15`, `row_remap:pending=1`, `probe_hung`. */
export function parseFault(command: Pick<Command, 'name'>, text: string) {
	const [, name = '', code = '', number = ''] = /^([a-z_]+)(?::([a-z0-9_:.-]{1,60}))?(?:=(\d{1,9}))?$/.exec(text) ?? [];
	const kind = KINDS.get(name);
	if (kind === undefined)
		throw usageError(command, `${JSON.stringify(text)} is no KIND[:CODE][=NUMBER] of ${[...KINDS.keys()].join(', ')}`);
	const isNumbered = (kind === HealthFactKind.XID || kind === HealthFactKind.SXID) && /^\d+$/.test(code);
	return { kind, name, code: isNumbered ? `${name}:${code}` : code, after: number === '' ? 1 : Number(number) };
}

const inject = define({
	name: 'fault inject',
	summary: 'Let a node say, marked as simulated and for a while, that something is wrong',
	description: `KIND is a kind of health fact: xid:79, gpu_lost:nvml:15, ecc_uncorrected, row_remap:pending=1, recovery_action=2, probe_hung ... Nothing on the host is touched: its agent, whose own policy must list inject_fault among tasks.kinds, says it by the way that real facts go, and everything that is made of it says simulated. Only on nodes with the label gpuaas.fault-injection=allowed. Several KINDs are one burst.`,
	takes: ['NODE', 'KIND'],
	options: {
		reason: { type: 'string', value: 'TEXT', help: 'Why; goes into the audit log' },
		gpu: { type: 'string', value: 'UUID', help: 'Of this GPU; the beginning of a UUID is enough' },
		and: { type: 'string', multiple: true, value: 'KIND', help: 'With it, in the same burst; may be repeated' },
		for: { type: 'string', value: 'DURATION', help: `How long it is wrong (default ${DURATION_DEFAULT}, at most 1d)` },
	},
	examples: [
		[
			'gpuaas fault inject gpu-07 xid:79 --gpu GPU-5fd4 --for 5m --reason "drill"',
			'What happens when a GPU falls off the bus?',
		],
		['gpuaas fault inject gpu-07 xid:48 --and xid:63 --gpu GPU-5fd4 --reason "drill"', 'A burst'],
		['gpuaas node label gpu-07 gpuaas.fault-injection=allowed', 'Where it may break'],
	],
	async act({ api, io, args, given: [node = '', first = ''], command }) {
		const reason = args.text('reason');
		if (reason === undefined) throw usageError(command, '--reason is missing: it goes into the audit log');
		const asked = [first, ...args.texts('and')].map((text) => parseFault(command, text));
		const lastsMs = durationMs(command, 'for', args.text('for') ?? DURATION_DEFAULT) ?? 0;
		const gpu = await gpuSubject(api, node, args.text('gpu'));
		const faults = asked.map(({ kind, name, code, after }) => {
			const isOfNode = OF_NODE.test(name);
			if (!isOfNode && gpu === undefined) throw usageError(command, `${name} is of a GPU: name it with --gpu`);
			const subject = isOfNode || gpu === undefined ? { kind: HealthSubjectKind.NODE } : gpu;
			return { kind, subject, code, after };
		});
		const response = await api.client(HealthService).injectNodeFault({
			...{ node, faults, duration: durationFromMs(lastsMs), reason, requestId: newRequestId(io) },
		});
		const until = response.endsAt === undefined ? '' : timestampDate(response.endsAt).toISOString();
		return {
			json: json(InjectNodeFaultResponseSchema, response),
			text: `sent as task ${response.taskId}; it is over at ${until}. Watch: gpuaas node health ${node}`,
		};
	},
});

export const commands: readonly Command[] = [inject];
