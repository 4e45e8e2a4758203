import { create } from '@bufbuild/protobuf';
import { ChannelSpecSchema } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { ForwardPortResponseSchema, PortService } from '../../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { mutation } from '../use-case.ts';
import { unattendedGraceMs } from './limits.ts';
import { applyChannel, CHANNEL_GATES, permissionOf, prepareChannel } from './open-channel.ts';
import { terminalMessage } from './view.ts';

const METHOD = PortService.method.forwardPort;

/** Connections to one port as seen from a node; which, the grant says and the node's own policy decides. */
export const forwardPort = mutation('node', METHOD, {
	gates: CHANNEL_GATES,
	async prepare(call, target) {
		const { host, port, user, purpose } = call.request;
		return await prepareChannel(call, target, {
			kind: 'forward',
			tty: false,
			graceMs: unattendedGraceMs,
			spec: create(ChannelSpecSchema, { kind: { case: 'forward', value: { host, port } }, user }),
			command: `forward ${host === '' ? 'localhost' : host}:${port}`,
			purpose,
			permission: permissionOf(METHOD),
		});
	},
	*apply(tx, call, target, prepared) {
		const { row, ...rest } = yield* applyChannel(tx, call, target, prepared);
		const terminal = terminalMessage(row, target.node.name);
		return { response: create(ForwardPortResponseSchema, { terminal }), ...rest };
	},
});
