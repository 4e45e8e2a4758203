import { messageOf } from '../../../kit/error.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { RelayHooks } from './channel-hooks.ts';
import { closeTerminal, type EndDeps } from './end.ts';

/** What a relay keeps in the store, beside the stream: when nobody is there, and how it ended. */
export function relayHooks(deps: EndDeps, terminal: TerminalRow): Omit<RelayHooks, 'clock'> {
	return {
		log: deps.log,
		onWatched(isWatched) {
			const detachedAtMs = isWatched ? null : deps.clock.now();
			deps.store
				.unit((tx) => tx.terminals.update(terminal.id, { detachedAtMs }))
				.catch((error: unknown) => {
					// The reconciler's next look keeps it.
					deps.log.warn('it was not kept who is attached', { terminal: terminal.id, error: messageOf(error) });
				});
		},
		async onEnded(end) {
			await closeTerminal(deps, terminal, end);
			await deps.terminals.get(terminal.id)?.endRecording(end.reason);
			deps.terminals.remove(terminal.id);
		},
	};
}
