import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { type ChannelSpec, ChannelSpecSchema } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { OpenTerminalResponseSchema, TerminalService } from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { mutation } from '../use-case.ts';
import { applyChannel, CHANNEL_GATES, type ChannelRequest, permissionOf, prepareChannel } from './open-channel.ts';
import { refusedUnrecorded } from './recorded-only.ts';
import { terminalMessage } from './view.ts';

const METHOD = TerminalService.method.openTerminal;

/** A shell, or one command, on a node. */
export const openTerminal = mutation('node', METHOD, {
	gates: CHANNEL_GATES,
	async prepare(call, target) {
		const request = requestOf(call.request.spec, call.request.purpose);
		const refused = refusedUnrecorded(call.deps.limits, request);
		if (refused !== undefined) throw refused;
		return await prepareChannel(call, target, request);
	},
	*apply(tx, call, target, prepared) {
		const { row, ...rest } = yield* applyChannel(tx, call, target, prepared);
		const terminal = terminalMessage(row, target.node.name);
		return { response: create(OpenTerminalResponseSchema, { terminal }), ...rest };
	},
});

function requestOf(spec: ChannelSpec | undefined, purpose: string): ChannelRequest {
	const kind = spec?.kind;
	if (spec === undefined || (kind?.case !== 'shell' && kind?.case !== 'exec'))
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: 'the request says neither spec.shell nor spec.exec; name what is to be opened',
		});
	const argv = kind.case === 'exec' ? kind.value.argv : [kind.value.shell];
	const texts = [...argv, ...Object.values(spec.env)];
	if (texts.some((text) => text.includes('\0')))
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: 'an argument or variable contains a NUL character, which no program can be given',
		});
	return {
		kind: kind.case,
		tty: kind.case === 'shell' || kind.value.size !== undefined,
		spec: create(ChannelSpecSchema, spec),
		command: argv.join(' '),
		purpose,
		permission: permissionOf(METHOD),
	};
}
