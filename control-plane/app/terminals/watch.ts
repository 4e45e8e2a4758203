import { every, type Timer } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { AppDeps } from '../deps.ts';
import type { CallContext } from '../iam/principal.ts';
import { refusedGraceMs } from './limits.ts';
import type { Relay } from './relay.ts';
import type { Viewer } from './viewer.ts';

/** A lock must end what it concerns within a second, also when the hint that tells of it is lost. */
const LOOK_MS = 500;
const TOPICS = ['terminals.shared', 'terminals.changed', 'iam.changed', 'assignments.ended', 'nodes.changed'] as const;

/**
 * Looks again and again whether whoever is attached may still be: at each hint, and twice a second. Returns what stops
 * it. Each look is one read of a few rows by their keys. Whoever may not be there is out with that look: they type and
 * see nothing more, whether they read why or not, and a stream on which they don't is cut.
 */
export function watch(
	{ bus, clock, log }: Pick<AppDeps, 'bus' | 'clock' | 'log'>,
	{ relay, viewer, ctx }: { readonly relay: Relay; readonly viewer: Viewer; readonly ctx: CallContext },
	what: { readonly terminalId: string; readonly decideAgain: () => Promise<void> },
): () => void {
	let isLooking = false;
	let cut: Timer | undefined;
	const refuse = (error: GpuaasError) => {
		viewer.close(error);
		relay.detach(viewer);
		cut ??= clock.setTimer(() => ctx.cut?.(), refusedGraceMs);
	};
	const look = async () => {
		if (isLooking) return;
		isLooking = true;
		try {
			await what.decideAgain();
		} catch (thrown) {
			const error = GpuaasError.from(thrown);
			// A store that doesn't answer decides nothing; the next look does.
			if (error.code === 'UNAVAILABLE' || error.code === 'INTERNAL')
				log.warn('an attachment was not looked at', { error });
			// Its end is told by the relay, with its reason.
			else if (error.reason !== 'TERMINAL_ENDED') refuse(error.code === 'NOT_FOUND' ? accessRemoved() : error);
		} finally {
			isLooking = false;
		}
	};
	const unsubscribe = TOPICS.map((topic) => bus.subscribe(topic, () => void look()));
	const timer = every(
		clock,
		LOOK_MS,
		() => void look(),
		() => {},
	);
	return () => {
		timer.cancel();
		cut?.cancel();
		for (const off of unsubscribe) off();
	};
}

/** Whoever sits at a terminal knows that it is there; that they may not see it now is because they lost what let them. */
function accessRemoved(): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'ACCESS_REMOVED',
		message: 'your account no longer holds a role that lets it be at this terminal; ask whoever gives roles there',
	});
}
