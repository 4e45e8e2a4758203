import { GpuaasError } from '../../../kit/error.ts';
import type { ChannelHello } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { AppDeps } from '../deps.ts';
import { commitQuota } from '../quotas/reserve.ts';
import { type EndDeps, endTerminal } from './end.ts';
import { reservedMs } from './limits.ts';
import type { NodeEnd, NodeEndListener } from './node-end.ts';
import { refusedUnrecorded } from './recorded-only.ts';
import type { RecorderFactory } from './recorder.ts';
import type { Relay } from './relay.ts';
import { relayHooks } from './relay-hooks.ts';

export interface JoinDeps extends EndDeps, Pick<AppDeps, 'limits'> {
	readonly recorders: RecorderFactory;
}

/**
 * An agent's stream of one channel: what it belongs to, and whether it may still live. The first stream of a terminal
 * opens it. Throws TERMINAL_NOT_FOUND and TERMINAL_ENDED, upon which the agent ends the program.
 */
export async function joinChannel(
	deps: JoinDeps,
	ctx: RequestContext,
	nodeId: string,
	hello: ChannelHello,
	node: NodeEnd,
): Promise<NodeEndListener> {
	const nowMs = deps.clock.now();
	const row = await deps.store.unit(function* (tx) {
		const found = yield* tx.terminals.get(hello.channelId);
		if (found === undefined || found.nodeId !== nodeId) throw unknown();
		if (found.state === 'closed') throw ended(found);
		if (found.state === 'open') return found;
		// Refused by the node: its end follows.
		if (hello.user === '') return found;
		const opened = yield* tx.terminals.update(found.id, { state: 'open', openedAtMs: nowMs, account: hello.user });
		// Uncounted are the platform's own; and what was counted once, and came so late that its room may be another's.
		const isCounted = found.organization !== null && (yield* commitQuota(tx, { kind: 'terminals', holder: found.id }));
		if (!isCounted && nowMs - found.createdAtMs >= reservedMs) throw ended({ ...found, reason: 'TERMINAL_UNANSWERED' });
		return opened ?? found;
	});
	const relay = deps.terminals.open(row, relayHooks(deps, row));
	// Opened before the setting was changed.
	const refused = refusedUnrecorded(deps.limits, row);
	if (refused !== undefined) await endTerminal(deps, row, refused.reason, refused.message);
	// Nothing of it is seen before it is recorded, whichever stream of it asked first.
	if (row.tty && hello.user !== '') await relay.recordOnce(() => record(deps, row, relay, hello.size));
	ctx.log.debug('channel joined', { terminal: row.id, node: nodeId });
	return relay.connectNode(hello, node);
}

async function record(deps: JoinDeps, row: TerminalRow, relay: Relay, size: ChannelHello['size']): Promise<void> {
	const onFailure = (isFatal: boolean, reason: string, message: string) => {
		if (isFatal)
			endTerminal(deps, row, reason, message).catch((error: unknown) =>
				// Ended for everybody already; the reconciler keeps it.
				deps.log.warn('the end of a terminal was not kept', { terminal: row.id, error }),
			);
		else {
			deps.log.warn('a recording failed', { terminal: row.id, reason });
			relay.announce(message);
		}
	};
	const outcome = await deps.recorders.open(row, size, onFailure);
	if (outcome.kind === 'recording') {
		relay.record(outcome.recorder);
		// Ended while its recording began: nobody else will end that.
		if (relay.ended !== undefined) await relay.endRecording(relay.ended.reason);
	} else if (outcome.kind === 'unrecorded' && outcome.isNews) relay.announce(outcome.why);
	else if (outcome.kind === 'refused') await endTerminal(deps, row, outcome.reason, outcome.message);
}

function unknown(): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'TERMINAL_NOT_FOUND',
		message: 'this node has no such terminal; end what runs there',
	});
}

function ended({ reason, message }: TerminalRow): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'TERMINAL_ENDED',
		message: `the terminal was ended (${reason}${message === '' ? '' : `: ${message}`}); end what runs there`,
	});
}
