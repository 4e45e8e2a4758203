import { systemClock } from '../../kit/clock.ts';
import type { Line } from './line.ts';
import { percentile } from './measure.ts';
import { atMost, type Row } from './row.ts';
import { TerminalLines } from './terminal-lines.ts';

/** From the start of the command to the first words of the program, n in a row: a person's wait for a prompt. */
export const row: Row = {
	name: 'terminal-open',
	what: 'start of the command -> first words, p50 of n',
	unit: 'ms',
	per: 'terminals',
	reference: 'ssh -J over loopback: two handshakes',
	targets: [atMost(2, 'p50 <= twice ssh -J', ({ ratio }) => ratio?.median)],
	sizes: { full: [3, 30], quick: [3] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 60,
	async open() {
		const lines = await TerminalLines.open();
		const timed = async (open: () => Line) => {
			const startedMs = systemClock.monotonic();
			using line = open();
			await line.sees('READY');
			return systemClock.monotonic() - startedMs;
		};
		return {
			async run(n) {
				const oursMs: number[] = [];
				const sshMs: number[] = [];
				for (let done = 0; done < n; done += 1) {
					oursMs.push(await timed(() => lines.ours('echo', 'READY')));
					sshMs.push(await timed(() => lines.ssh('echo READY')));
				}
				return { value: percentile(oursMs, 50), reference: percentile(sshMs, 50) };
			},
			[Symbol.asyncDispose]: () => lines[Symbol.asyncDispose](),
		};
	},
};
