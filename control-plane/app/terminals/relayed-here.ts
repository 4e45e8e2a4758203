import type { Gate } from '../gates.ts';
import { assertNotElsewhere } from '../sessions/elsewhere.ts';

/**
 * A terminal is relayed by the replica that has its node's link; where that is another, whoever attaches here would wait
 * for ever. Asked again of those who are attached: their node may have moved. Throws NODE_ON_OTHER_REPLICA.
 */
export const RELAYED_HERE: Gate<'terminal'> = {
	gate: 'replica',
	*check(tx, { target: { terminal }, deps, nowMs }) {
		if (terminal.state === 'closed') return 'it has ended, and how is known everywhere';
		if (deps.terminals.get(terminal.id)?.isConnected === true) return 'this replica relays it';
		yield* assertNotElsewhere(tx, deps, terminal.nodeId, nowMs);
		return 'no other replica has the link of its node';
	},
};
