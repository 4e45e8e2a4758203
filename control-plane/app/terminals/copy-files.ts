import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import {
	ChannelSpecSchema,
	CopyAccess,
	type CopySpecSchema,
} from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	FileService,
	ReadFilesResponseSchema,
	WriteFilesResponseSchema,
} from '../../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { mutation } from '../use-case.ts';
import { unattendedGraceMs } from './limits.ts';
import { applyChannel, CHANNEL_GATES, type ChannelRequest, permissionOf, prepareChannel } from './open-channel.ts';
import { terminalMessage } from './view.ts';

/** Files from a node, and to it: two permissions, because the one says nothing about the other. */
const READ = FileService.method.readFiles;
const WRITE = FileService.method.writeFiles;

export const readFiles = mutation('node', READ, {
	gates: CHANNEL_GATES,
	async prepare(call, target) {
		const { path, recursive } = call.request;
		const copy = { access: CopyAccess.READ, path, recursive };
		return await prepareChannel(call, target, requestOf(copy, call.request, permissionOf(READ)));
	},
	*apply(tx, call, target, prepared) {
		const { row, ...rest } = yield* applyChannel(tx, call, target, prepared);
		const terminal = terminalMessage(row, target.node.name);
		return { response: create(ReadFilesResponseSchema, { terminal }), ...rest };
	},
});

export const writeFiles = mutation('node', WRITE, {
	gates: CHANNEL_GATES,
	async prepare(call, target) {
		const { path, force } = call.request;
		const copy = { access: CopyAccess.WRITE, path, force };
		return await prepareChannel(call, target, requestOf(copy, call.request, permissionOf(WRITE)));
	},
	*apply(tx, call, target, prepared) {
		const { row, ...rest } = yield* applyChannel(tx, call, target, prepared);
		const terminal = terminalMessage(row, target.node.name);
		return { response: create(WriteFilesResponseSchema, { terminal }), ...rest };
	},
});

function requestOf(
	copy: MessageInitShape<typeof CopySpecSchema> & { readonly path: string },
	{ user, purpose }: { readonly user: string; readonly purpose: string },
	permission: string,
): ChannelRequest {
	if (copy.path.includes('\0'))
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: 'the path contains a NUL character, which no file system knows',
		});
	return {
		kind: 'copy',
		tty: false,
		graceMs: unattendedGraceMs,
		spec: create(ChannelSpecSchema, { kind: { case: 'copy', value: copy }, user }),
		command: `${copy.access === CopyAccess.READ ? 'read' : 'write'} ${copy.path}`,
		purpose,
		permission,
	};
}
