import { GpuaasError } from '../../../kit/error.ts';
import type { Tx } from '../../store/port/store.ts';
import type { ShareMode, TerminalRow } from '../../store/port/terminals.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';

/**
 * Whether this principal may be at this terminal in this mode, beyond the permission: whoever opened it, and whom they
 * let in. Throws TERMINAL_ENDED, TERMINAL_NOT_SHARED.
 */
export function* mayAttach(
	tx: Tx,
	terminal: TerminalRow,
	principalId: string,
	mode: ShareMode,
): Plan<'opener' | ShareMode> {
	const isOwner = terminal.createdBy === principalId;
	// Its owner is told how it ended.
	if (terminal.state === 'closed' && !isOwner)
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'TERMINAL_ENDED',
			message: `the terminal has ended${terminal.message === '' ? '' : ` (${terminal.message})`}; open another`,
			metadata: { ended_reason: terminal.reason },
		});
	if (isOwner) return 'opener';
	const share = yield* tx.terminals.getShare(terminal.id, principalId);
	if (share !== undefined && (share.mode === 'control' || mode === 'observe')) return share.mode;
	throw new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'TERMINAL_NOT_SHARED',
		message:
			share === undefined
				? 'the terminal is somebody else’s, who has not shared it with you; ask them for: gpuaas terminal share'
				: 'the terminal was shared with you for looking, not for typing; attach with --observe',
	});
}

/** To look on. Throws TERMINAL_ENDED, TERMINAL_NOT_SHARED. */
export const MAY_OBSERVE: Gate<'terminal'> = {
	gate: 'attendance',
	*check(tx, { target: { terminal }, actor }) {
		const as = yield* mayAttach(tx, terminal, actor.id, 'observe');
		return as === 'opener' ? 'they opened it' : 'it is shared with them';
	},
};

/** To look on, or to type as well, which the request says. Throws TERMINAL_ENDED, TERMINAL_NOT_SHARED. */
export const MAY_ATTACH: Gate<'terminal'> = {
	gate: 'attendance',
	*check(tx, { target: { terminal }, actor }) {
		const as = yield* mayAttach(tx, terminal, actor.id, 'observe');
		if (as === 'opener') return 'they opened it';
		if (as === 'control') return 'it is shared with them';
		return { notAsked: 'it is shared with them for looking; to type would be refused (TERMINAL_NOT_SHARED)' };
	},
};
