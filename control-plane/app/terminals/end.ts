import { systemContext } from '../../context.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import { releaseQuota } from '../quotas/reserve.ts';
import type { End } from './channel-hooks.ts';

export interface EndDeps extends Pick<AppDeps, 'clock' | 'log' | 'store' | 'bus' | 'terminals'> {
	readonly appendAudit: AppendAudit;
}

/**
 * Closes the row with how it ended, in one unit with its audit record; false when it was closed before. For ends that
 * nobody called for: the program's own, limits, locks. KillTerminal has its own unit.
 */
export async function closeTerminal(deps: EndDeps, terminal: TerminalRow, end: End): Promise<boolean> {
	const { clock, log, store, bus } = deps;
	const nowMs = clock.now();
	const ctx = systemContext('terminals', clock, log, terminal.correlationId);
	const closed = await store.unit(function* (tx) {
		const row = yield* tx.terminals.update(terminal.id, closedPatch(end, nowMs));
		if (row === undefined) return false;
		yield* releaseTerminal(tx, row);
		yield* deps.appendAudit(tx, ctx, {
			action: 'terminals.end',
			target: `terminals/${terminal.id}`,
			result: 'ok',
			reason: end.reason,
			custody: row.custody,
			detail: { node: row.nodeId, seconds: Math.round((nowMs - row.createdAtMs) / 1000) },
			...(row.organization === null ? {} : { organization: row.organization }),
		});
		return true;
	});
	if (closed) bus.publish({ topic: 'terminals.changed', key: terminal.id });
	return closed;
}

/** A closed terminal counts no longer; one of the platform itself never did. In the unit that closes it. */
export function* releaseTerminal(tx: Tx, { id, organization }: TerminalRow): Plan<void> {
	if (organization !== null) yield* releaseQuota(tx, 'terminals', [id]);
}

export function closedPatch(end: End, nowMs: number) {
	return {
		state: 'closed' as const,
		closedAtMs: nowMs,
		detachedAtMs: null,
		exitCode: end.exitCode ?? null,
		signal: end.signal ?? null,
		reason: end.reason,
		message: end.message,
	};
}

/**
 * Ends a living terminal for everybody at once, and keeps why; its recording is sealed meanwhile. The node hears of it
 * now or when it comes back. When it can't be kept it has ended all the same, and the reconciler keeps it later.
 */
export async function endTerminal(
	deps: EndDeps,
	terminal: TerminalRow,
	reason: string,
	message: string,
): Promise<void> {
	const relay = deps.terminals.get(terminal.id);
	relay?.end(reason, message);
	relay?.endRecording(reason).catch((error: unknown) => {
		deps.log.warn('a recording was not sealed', { terminal: terminal.id, error });
	});
	await closeTerminal(deps, terminal, { reason, message });
	if (relay !== undefined && !relay.isConnected) deps.terminals.remove(terminal.id);
}
