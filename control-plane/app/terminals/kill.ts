import { create } from '@bufbuild/protobuf';
import { KillTerminalResponseSchema, TerminalService } from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { mutation } from '../use-case.ts';
import { closedPatch, releaseTerminal } from './end.ts';
import { terminalMessage } from './view.ts';

/** Ends it for everybody at once; what runs in it is hung up on, and killed. Killing again changes nothing. */
export const killTerminal = mutation('terminal', TerminalService.method.killTerminal, {
	prepare: () => undefined,
	*apply(tx, { deps, ctx, request, nowMs }, { terminal }) {
		const nodeName = yield* nameOfNode(tx, terminal.nodeId);
		const by = ctx.actor.displayName === '' ? ctx.actor.id : ctx.actor.displayName;
		const message = `${by} ended it${request.reason === '' ? '' : `: ${request.reason}`}`;
		const end = { reason: 'TERMINAL_KILLED', message };
		const closed = yield* tx.terminals.update(terminal.id, closedPatch(end, nowMs));
		if (closed !== undefined) yield* releaseTerminal(tx, closed);
		return {
			response: create(KillTerminalResponseSchema, { terminal: terminalMessage(closed ?? terminal, nodeName) }),
			audit: {
				action: 'terminals.kill',
				target: `terminals/${terminal.id}`,
				result: 'ok',
				reason: closed === undefined ? 'TERMINAL_ENDED' : '',
				detail: { node: terminal.nodeId },
				...(request.reason === '' ? {} : { personal: { reason: request.reason } }),
				...(terminal.organization === null ? {} : { organization: terminal.organization }),
			},
			events: [{ topic: 'terminals.changed', key: terminal.id }],
			effects() {
				const relay = deps.terminals.get(terminal.id);
				relay?.end(end.reason, end.message);
				void relay?.endRecording(end.reason);
				if (relay?.isConnected === false) deps.terminals.remove(terminal.id);
			},
		};
	},
});
