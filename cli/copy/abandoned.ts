import { type Clock, sleep } from '../../kit/clock.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TerminalKind, TerminalService, TerminalState } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { Api } from '../client.ts';

const PAGE = 1000;
/** A server takes a moment to notice that a command was killed; a copy that is really under way keeps its viewer. */
const NOTICE_MS = 2000;
const POLL_MS = 100;

/**
 * Ends what an earlier copy of the caller's to the same place left on the node when its command was killed: nobody is at
 * its other end, and while it lives its partial file can't be taken over. Other people's may be about to be attached to
 * again. Best effort: without it the copy begins anew instead.
 */
export async function endAbandoned(api: Api, clock: Clock, node: string, command: string): Promise<void> {
	const client = api.client(TerminalService);
	const list = async () => {
		const { terminals } = await client.listTerminals({ node, pageSize: PAGE });
		return terminals.filter(
			({ kind, state, command: theirs }) =>
				kind === TerminalKind.COPY && state === TerminalState.OPEN && theirs === command,
		);
	};
	try {
		let left = await list();
		if (left.length === 0) return;
		const { principalId } = await api.client(SystemService).whoAmI({});
		const until = clock.monotonic() + NOTICE_MS;
		for (;;) {
			const own = left.filter(({ createdBy }) => createdBy === principalId);
			for (const { id, viewers } of own) {
				if (viewers === 0) await client.killTerminal({ terminalId: id, reason: 'its copy was interrupted' });
			}
			if (own.every(({ viewers }) => viewers === 0) || clock.monotonic() >= until) return;
			await sleep(clock, POLL_MS);
			left = await list();
		}
	} catch {
		// Whoever may not list or kill may still copy.
	}
}
