import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { ObserveTerminalResponseSchema, TerminalService } from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { auditedStream } from '../stream-case.ts';
import { MAY_OBSERVE } from './may-attach.ts';
import { relayHooks } from './relay-hooks.ts';
import { RELAYED_HERE } from './relayed-here.ts';
import { terminalMessage } from './view.ts';
import { Viewer } from './viewer.ts';
import { watch } from './watch.ts';

type Event = NonNullable<MessageInitShape<typeof ObserveTerminalResponseSchema>['message']>;

/** Looks on. What the transport has taken counts as seen; whoever reads too slowly sees the screen again later. */
export const observeTerminal = auditedStream('terminal', TerminalService.method.observeTerminal, {
	gates: [MAY_OBSERVE, RELAYED_HERE],
	*open(tx, _call, { terminal }) {
		const nodeName = yield* nameOfNode(tx, terminal.nodeId);
		return {
			value: { terminal, nodeName },
			audit: {
				action: 'terminals.observe',
				target: `terminals/${terminal.id}`,
				result: 'ok',
				reason: '',
				detail: { node: terminal.nodeId },
				...(terminal.organization === null ? {} : { organization: terminal.organization }),
			},
		};
	},
	async *events({ deps, ctx, opened, decideAgain }) {
		const { terminal, nodeName } = opened;
		if (terminal.state === 'closed') return;
		const relay = deps.terminals.open(terminal, relayHooks(deps, terminal));
		const viewer = new Viewer({
			principalId: ctx.actor.id,
			name: ctx.actor.displayName,
			mode: 'observe',
			hasScreen: terminal.tty,
			isPulled: true,
			acknowledges: false,
			now: relay.now,
			onProgress: relay.onProgress,
		});
		relay.attach(viewer, undefined, undefined);
		const leave = watch(deps, { relay, viewer, ctx }, { terminalId: terminal.id, decideAgain });
		try {
			const attached = { terminal: terminalMessage(terminal, nodeName, relay.viewers.size) };
			yield create(ObserveTerminalResponseSchema, { message: { case: 'attached', value: attached } });
			for await (const message of viewer.messages(ctx.signal))
				if (message.case !== 'ack') yield create(ObserveTerminalResponseSchema, { message: message as Event });
		} finally {
			leave();
			relay.detach(viewer);
		}
	},
});
