import { messageOf } from '../../../kit/error.ts';
import { type EndDeps, endTerminal } from './end.ts';

const OPEN_MAX = 4096;

/**
 * What an agent says that it still has. An open terminal of its node that is missing, and that no stream of it speaks
 * for, is gone: the host restarted, or its state was lost. One that is being opened has a deadline of its own.
 */
export async function loseTerminals(deps: EndDeps, nodeId: string, channelIds: readonly string[]): Promise<void> {
	const there = new Set(channelIds);
	try {
		const open = await deps.store.read((tx) => tx.terminals.listOpen(nodeId, '', OPEN_MAX));
		for (const row of open) {
			if (row.state !== 'open' || there.has(row.id) || deps.terminals.get(row.id)?.isConnected === true) continue;
			await endTerminal(deps, row, 'TERMINAL_LOST', 'the node has it no more: its host restarted, or was made anew');
		}
	} catch (error) {
		// Told again with the next session.
		deps.log.warn('lost terminals were not closed', { node: nodeId, error: messageOf(error) });
	}
}
