import { assert } from '../../kit/assert.ts';
import { cpuPerTask } from './cpu.ts';
import { atLeast, type Row } from './row.ts';
import { type Bulk, TerminalLines } from './terminal-lines.ts';

const LINE = 'the quick brown fox jumps over the lazy dog, and the lazy dog looks on';

/** n MB of lines on a terminal, recorded and drawn: what somebody waits for who shows a long file. */
export const row: Row = {
	name: 'terminal-flood',
	what: 'exec -t: n MB of lines',
	unit: 'MB/s',
	per: 'MB',
	reference: 'ssh -tt -J over loopback, same program',
	targets: [atLeast(1, '>= ssh -tt -J', ({ ratio }) => ratio?.median)],
	sizes: { full: [4, 40], quick: [4] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 90,
	async open() {
		const lines = await TerminalLines.open();
		return {
			async run(n) {
				const script = `yes '${LINE}' | head -c ${n * 1_000_000}`;
				const before = lines.cpuUs();
				const value = rateOf(n, await lines.oursFlood(['sh', '-c', script]));
				const spent = cpuPerTask(before, lines.cpuUs(), n * 1000);
				const also = {
					controlPlaneCpuMsPerMB: spent.controlPlaneCpuUsPerTask ?? 0,
					agentCpuMsPerMB: spent.agentCpuUsPerTask ?? 0,
					ptyHostCpuMsPerMB: spent.ptyHostCpuUsPerTask ?? 0,
				};
				return { value, reference: rateOf(n, await lines.sshFlood(script)), also };
			},
			[Symbol.asyncDispose]: () => lines[Symbol.asyncDispose](),
		};
	},
};

/** In MB/s of what the program wrote: a terminal makes two bytes of the end of a line. */
function rateOf(n: number, { bytes, ms }: Bulk): number {
	const written = n * 1_000_000;
	assert(bytes >= written + Math.floor(written / (LINE.length + 1)), `${bytes} bytes arrived`);
	return written / 1000 / ms;
}
