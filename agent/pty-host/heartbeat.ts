import { type Clock, sleep } from '../../kit/clock.ts';

const HEARTBEAT_MS = 5000;
/** The host parses at most 2 MiB at once, and a machine may swap. */
const ANSWER_MS_MAX = 15_000;

/**
 * Whether a pty host that is connected also answers. One that doesn't is killed: its terminals are lost either way, and
 * the next one says so. Resolves with why another connection is needed, or with anything once `signal` aborts.
 */
export async function watchHeartbeat(
	clock: Clock,
	kill: (pid: number) => void,
	host: { readonly pid: number; ping(): Promise<void> },
	signal: AbortSignal,
): Promise<string> {
	for (;;) {
		await sleep(clock, HEARTBEAT_MS, signal);
		if (signal.aborted) return '';
		const answered = host.ping().then(
			() => 'ANSWERED',
			// Whoever is not there any more is not killed: their number may be somebody else's.
			() => 'NOT_REACHED',
		);
		const enough = new AbortController();
		const late = sleep(clock, ANSWER_MS_MAX, enough.signal).then(() => 'SILENT');
		const answer = await Promise.race([answered, late]);
		enough.abort();
		if (signal.aborted) return '';
		if (answer === 'ANSWERED') continue;
		if (answer === 'NOT_REACHED') return 'it could not be asked whether it lives';
		kill(host.pid);
		return 'it did not answer';
	}
}
