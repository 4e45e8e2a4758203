import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { Stream } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	AttachMode,
	type AttachTerminalRequest,
	type AttachTerminalResponse,
	AttachTerminalResponseSchema,
	TerminalService,
} from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { ShareMode, TerminalRow } from '../../store/port/terminals.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { bidi, type LiveCall } from '../stream-case.ts';
import { MAY_ATTACH, mayAttach } from './may-attach.ts';
import type { Relay } from './relay.ts';
import { relayHooks } from './relay-hooks.ts';
import { RELAYED_HERE } from './relayed-here.ts';
import { terminalMessage } from './view.ts';
import { Viewer, type ViewerMessage } from './viewer.ts';
import { watch } from './watch.ts';

interface Attachment {
	readonly terminal: TerminalRow;
	readonly nodeName: string;
	readonly mode: ShareMode;
}

/** Both ways, until the terminal ends, the caller leaves, or may no longer be there. */
export const attachTerminal = bidi('terminal', TerminalService.method.attachTerminal, {
	gates: [MAY_ATTACH, RELAYED_HERE],
	*open(tx, { ctx, request }, { terminal }) {
		if (request.message.case !== 'attach') throw noAttach();
		const mode = request.message.value.mode === AttachMode.OBSERVE ? 'observe' : 'control';
		yield* mayAttach(tx, terminal, ctx.actor.id, mode);
		const nodeName = yield* nameOfNode(tx, terminal.nodeId);
		return {
			value: { terminal, nodeName, mode } satisfies Attachment,
			audit: {
				action: 'terminals.attach',
				target: `terminals/${terminal.id}`,
				result: 'ok',
				reason: '',
				detail: { mode, node: terminal.nodeId },
				...(terminal.organization === null ? {} : { organization: terminal.organization }),
			},
		};
	},
	async *events(call, requests) {
		const { deps, ctx, request, opened, decideAgain } = call;
		const { terminal, nodeName } = opened;
		if (terminal.state === 'closed') {
			yield* howItEnded(terminal, nodeName);
			return;
		}
		const relay = deps.terminals.open(terminal, relayHooks(deps, terminal));
		const viewer = viewerOf(call, relay);
		const attach = request.message.case === 'attach' ? request.message.value : undefined;
		const from = { stdout: Number(attach?.stdoutOffset ?? 0n), stderr: Number(attach?.stderrOffset ?? 0n) };
		const isBack = attach?.resume === true;
		relay.attach(viewer, attach?.size, isBack ? from : undefined);
		const leave = watch(deps, { relay, viewer, ctx }, { terminalId: terminal.id, decideAgain });
		void take(requests, relay, viewer, ctx.signal);
		try {
			const stdinFrom = await relay.stdinFrom(viewer, isBack, ctx.signal);
			const value = {
				terminal: terminalMessage(terminal, nodeName, relay.viewers.size),
				stdinOffset: BigInt(stdinFrom),
			};
			yield create(AttachTerminalResponseSchema, { message: { case: 'attached', value } });
			const answer = (message: ViewerMessage) => create(AttachTerminalResponseSchema, { message });
			const { push } = ctx;
			if (push === undefined) for await (const message of viewer.messages(ctx.signal)) yield answer(message);
			else await viewer.deliver((message) => push(answer(message)), ctx.signal);
		} finally {
			leave();
			relay.detach(viewer);
		}
	},
});

/** For whoever attaches too late: a program may end, or be refused, before anybody is there. */
function* howItEnded(terminal: TerminalRow, nodeName: string): Generator<AttachTerminalResponse> {
	const { exitCode, signal, reason, message } = terminal;
	const attached = { terminal: terminalMessage(terminal, nodeName) };
	yield create(AttachTerminalResponseSchema, { message: { case: 'attached', value: attached } });
	const end = {
		reason,
		message,
		...(exitCode === null ? {} : { exitCode }),
		...(signal === null ? {} : { signal }),
	};
	yield create(AttachTerminalResponseSchema, { message: { case: 'end', value: end } });
}

function viewerOf(
	{ ctx, request, opened }: LiveCall<typeof TerminalService.method.attachTerminal.input, Attachment>,
	relay: Relay,
) {
	return new Viewer({
		principalId: ctx.actor.id,
		name: ctx.actor.displayName,
		mode: opened.mode,
		hasScreen: opened.terminal.tty,
		isPulled: false,
		acknowledges: request.message.case === 'attach' && request.message.value.acknowledges,
		now: relay.now,
		onProgress: relay.onProgress,
	});
}

/** What the caller sends, until it stops; then it has left. */
async function take(
	requests: AsyncIterator<AttachTerminalRequest>,
	relay: Relay,
	viewer: Viewer,
	signal: AbortSignal,
): Promise<void> {
	try {
		while (!viewer.isClosed) {
			const next = await requests.next();
			if (next.done === true || next.value.message.case === 'detach') break;
			await takeOne(next.value, relay, viewer, signal);
		}
	} catch (error) {
		if (!signal.aborted) viewer.close(GpuaasError.from(error));
	}
	relay.detach(viewer);
}

async function takeOne(
	{ message }: AttachTerminalRequest,
	relay: Relay,
	viewer: Viewer,
	signal: AbortSignal,
): Promise<void> {
	// Refused while it was on its way: see watch.
	if (viewer.isClosed) return;
	if (message.case === 'ack')
		relay.ack(viewer, message.value.stream === Stream.STDERR ? 'stderr' : 'stdout', Number(message.value.offset));
	else if (viewer.mode === 'observe') throw readOnly();
	else if (message.case === 'input') await relay.write(viewer, message.value as Parameters<Relay['write']>[1], signal);
	else if (message.case === 'resize') relay.resize(viewer, message.value);
	else if (message.case === 'signal') relay.signal(viewer, message.value.name);
	else throw noAttach();
}

function noAttach(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: 'a stream begins with `attach`, once; then it sends input, acknowledgements, sizes and signals',
	});
}

function readOnly(): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'TERMINAL_NOT_SHARED',
		message: 'whoever observes a terminal can’t type into it; nothing was sent. Attach without --observe',
	});
}
