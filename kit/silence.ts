import { type Clock, every, type Timer } from './clock.ts';

export interface SilenceLimits {
	/** Between two things that ask the other end for an answer. */
	readonly keepaliveMs: number;
	/** Beyond that, how long nothing may be heard. */
	readonly keepaliveTimeoutMs: number;
	/** And how much longer while what we have written waits for a slow line: node:http2 hears nothing then (read-always.ts). */
	readonly blockedMs?: number;
}

/** What is needed of a session of node:http2, which this folder doesn't own. */
interface Session {
	readonly destroyed: boolean;
	readonly closed: boolean;
	readonly socket: { readonly bytesRead: number };
	readonly state: { readonly outboundQueueSize?: number | undefined };
	ping(callback: () => void): unknown;
	settings(settings: Record<string, never>): unknown;
	destroy(): void;
}

export interface SilenceWatch extends Timer {
	/**
	 * At the last look nothing had been heard since the one before, and what was written waited: a dead line, or two ends
	 * that wait for each other (read-always.ts).
	 */
	readonly isStuck: boolean;
}

/**
 * Looks this often within the time that nothing may be heard. Counted, not measured: whoever was asleep themselves finds
 * much time gone, and what came meanwhile unread.
 */
const LOOKS = 3;

/**
 * Finds an HTTP/2 connection whose other end went away without a word, which TCP notices after a quarter of an hour, or
 * never. Anything that is heard counts, not only the answer: that one waits behind all that its sender has queued, a
 * minute on a slow line. So both ends must ask, whatever they hear: of two, one may be busy sending only.
 *
 * For a session that is connected; cancel it when the session is closed.
 */
export function whenSilent(
	clock: Clock,
	session: Session,
	{ keepaliveMs, keepaliveTimeoutMs, blockedMs = 0 }: SilenceLimits,
	onSilent: () => void,
): SilenceWatch {
	let heardBytes = heard(session);
	let silentLooks = 0;
	let isStuck = false;
	// One that fails is not answered.
	const asks = every(
		clock,
		keepaliveMs,
		() => ask(session),
		() => {},
	);
	const lookMs = (keepaliveMs + keepaliveTimeoutMs) / LOOKS;
	const look = () => {
		// As it was when it was destroyed; its end comes later.
		if (session.destroyed) return;
		const nowBytes = heard(session);
		silentLooks = nowBytes === heardBytes ? silentLooks + 1 : 0;
		heardBytes = nowBytes;
		// What was asked is still here.
		isStuck = silentLooks > 0 && (session.state.outboundQueueSize ?? 0) > 0;
		const isBlocked = silentLooks >= LOOKS && isStuck;
		if (silentLooks >= LOOKS + (isBlocked ? blockedMs / lookMs : 0)) onSilent();
	};
	const looks = every(clock, lookMs, look, () => session.destroy());
	return {
		get isStuck() {
			return isStuck;
		},
		cancel() {
			asks.cancel();
			looks.cancel();
		},
	};
}

/** One that takes no new streams sends no PING any more and may carry old ones for hours: SETTINGS are answered too. */
function ask(session: Session): void {
	if (session.destroyed) return;
	if (session.closed) session.settings({});
	else session.ping(() => {});
}

function heard(session: Session): number {
	return session.destroyed ? 0 : session.socket.bytesRead;
}
