import { percentile } from './measure.ts';
import { atLeast, atMost, type Row } from './row.ts';
import { bulkSample } from './terminal-bulk.ts';
import { echoes } from './terminal-echo.ts';
import { TerminalLines } from './terminal-lines.ts';

/** Of bulk: enough for windows to open, little enough for 0.6 MB/s. */
const BULK_MB = 32;
const KEYS = 50;

/** The person is n ms of round trip away from the control plane, and as far from the jump host (relays). */
export const row: Row = {
	name: 'terminal-far',
	what: `exec: ${BULK_MB} MB of output; key -> echo`,
	unit: 'MB/s',
	per: 'ms RTT',
	reference: 'ssh -J through a relay of the same round trip',
	targets: [
		atLeast(1, 'bulk >= ssh -J at every RTT', ({ ratio }) => ratio?.median),
		atMost(1, 'echo p50 <= 1 ms over ssh -J at every RTT', ({ also }) => also.echoOverSshMs?.median),
	],
	sizes: { full: [10, 50], quick: [10] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 90,
	async open() {
		const near = await TerminalLines.open();
		return {
			async run(n) {
				await using lines = await near.far(n);
				const { value, reference } = await bulkSample(lines, BULK_MB);
				const { oursMs, sshMs } = await echoes(lines, KEYS);
				const [echoP50Ms, sshEchoP50Ms] = [percentile(oursMs, 50), percentile(sshMs, 50)];
				return { value, reference, also: { echoP50Ms, sshEchoP50Ms, echoOverSshMs: echoP50Ms - sshEchoP50Ms } };
			},
			[Symbol.asyncDispose]: () => near[Symbol.asyncDispose](),
		};
	},
};
