import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../kit/error.ts';
import {
	ClearNodeHealthOverrideResponseSchema,
	HealthClearing,
	HealthService,
	RecordNodeHealthEvidenceResponseSchema,
	SetNodeHealthOverrideResponseSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { Api } from '../client.ts';
import { type Arguments, type Command, durationMs, usageError } from '../command.ts';
import { define } from '../define.ts';
import { glanceText } from '../health/show-verdict.ts';
import { newRequestId } from '../request-id.ts';
import { json } from '../show.ts';

/** What somebody decides or shows beside the verdict of a node. */
const REASON = { reason: { type: 'string', value: 'TEXT', help: 'Why; goes into the audit log' } } as const;

function reasonOf(command: Command, args: Arguments): string {
	const reason = args.text('reason');
	if (reason === undefined) throw usageError(command, '--reason is missing: it goes into the audit log');
	return reason;
}

const setOverride = define({
	name: 'health override set',
	summary: 'Let a node be given to somebody, or hold it back, whatever its verdict says, for a while',
	description:
		'It ends by itself; until then it is shown as an override wherever health is. The verdict goes on being made.',
	takes: ['NODE'],
	options: {
		...REASON,
		allow: { type: 'boolean', help: 'It may be given to somebody' },
		hold: { type: 'boolean', help: 'It may not' },
		for: { type: 'string', value: 'DURATION', help: 'How long; at most 30d' },
	},
	examples: [
		[
			'gpuaas health override set gpu-07 --allow --for 4h --reason "the fan was replaced, the sensor lags"',
			'Until then',
		],
		['gpuaas health override set gpu-07 --hold --for 2d --reason "customer reports wrong results"', 'Nobody gets it'],
	],
	async act({ api, io, args, given: [node = ''], command }) {
		const schedulable = args.flag('allow');
		if (schedulable === args.flag('hold')) throw usageError(command, 'give either --allow or --hold');
		const lastsMs = durationMs(command, 'for', args.text('for'));
		if (lastsMs === undefined) throw usageError(command, '--for is missing: every override ends');
		const response = await api.client(HealthService).setNodeHealthOverride({
			...{ node, schedulable, reason: reasonOf(command, args), duration: durationFromMs(lastsMs) },
		});
		return {
			json: json(SetNodeHealthOverrideResponseSchema, response),
			text: `${node}: ${glanceText(io, response.health)}`,
		};
	},
});

const clearOverride = define({
	name: 'health override clear',
	summary: 'Let the verdict of a node decide again',
	takes: ['NODE'],
	examples: [['gpuaas health override clear gpu-07', 'Also before its time is over']],
	async act({ api, io, given: [node = ''] }) {
		const response = await api.client(HealthService).clearNodeHealthOverride({ node });
		return {
			json: json(ClearNodeHealthOverrideResponseSchema, response),
			text: `${node}: ${glanceText(io, response.health)}`,
		};
	},
});

const KINDS: Readonly<Record<string, HealthClearing>> = {
	'gpu-reset': HealthClearing.GPU_RESET,
	'diagnostic-passed': HealthClearing.DIAGNOSTIC_PASSED,
	serviced: HealthClearing.SERVICED,
};

const evidence = define({
	name: 'health evidence',
	summary: 'Record what ends findings: a GPU was reset, a diagnostic passed, the hardware was worked on',
	description:
		'KIND is gpu-reset, diagnostic-passed or serviced. A reset and a diagnostic are shown by --task, a task of yours that ran on this node after it was as it is now, and succeeded. What a policy says that only evidence ends does not end by silence; and a node in quarantine comes back by diagnostic-passed or serviced.',
	takes: ['NODE', 'KIND'],
	options: {
		...REASON,
		task: { type: 'string', value: 'ID', help: 'The task that shows it' },
		gpu: { type: 'string', value: 'UUID', help: 'Of this GPU only; the beginning of a UUID is enough' },
	},
	examples: [
		['gpuaas health evidence gpu-07 diagnostic-passed --task 0197... --reason "dcgmi diag -r 3"', 'After a load test'],
		['gpuaas health evidence gpu-07 serviced --reason "GPU 3 replaced, RMA 4711"', 'Ends everything that is open'],
	],
	async act({ api, io, args, given: [node = '', word = ''], command }) {
		const clearing = KINDS[word];
		if (clearing === undefined)
			throw usageError(command, `${JSON.stringify(word)} is none of ${Object.keys(KINDS).join(', ')}`);
		const subject = await gpuSubject(api, node, args.text('gpu'));
		const response = await api.client(HealthService).recordNodeHealthEvidence({
			node,
			clearing,
			taskId: args.text('task') ?? '',
			reason: reasonOf(command, args),
			requestId: newRequestId(io),
			...(subject === undefined ? {} : { subject }),
		});
		return {
			json: json(RecordNodeHealthEvidenceResponseSchema, response),
			text: `recorded (${response.evidenceId}); see what it ended: gpuaas node health ${node}`,
		};
	},
});

/** Of the GPU whose UUID begins so; undefined where none was asked for. */
export async function gpuSubject(api: Api, node: string, uuid: string | undefined) {
	if (uuid === undefined) return undefined;
	const { health } = await api.client(HealthService).getNodeHealth({ node });
	const ids = new Set(
		(health?.verdicts ?? []).flatMap(({ subject }) =>
			subject?.kind === HealthSubjectKind.GPU && subject.id.startsWith(uuid) ? [subject.id] : [],
		),
	);
	const [id, other] = ids;
	if (id !== undefined && other === undefined) return { kind: HealthSubjectKind.GPU, id };
	throw new GpuaasError({
		code: id === undefined ? 'NOT_FOUND' : 'INVALID_ARGUMENT',
		reason: id === undefined ? 'NOT_FOUND' : 'INVALID_REQUEST',
		message: `${id === undefined ? 'no GPU' : 'more than one GPU'} of ${node} that has a verdict begins with ${JSON.stringify(uuid)}; see: gpuaas node health ${node} --json`,
	});
}

export const decisions: readonly Command[] = [setOverride, clearOverride, evidence];
