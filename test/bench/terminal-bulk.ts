import { assert } from '../../kit/assert.ts';
import { cpuPerTask } from './cpu.ts';
import { atLeast, type Row, type Sample } from './row.ts';
import { TerminalLines } from './terminal-lines.ts';

/** n MB from a program on the node to ours, through the whole product and through `ssh -J`. */
export const row: Row = {
	name: 'terminal-bulk',
	what: 'exec: n MB of output',
	unit: 'MB/s',
	per: 'MB',
	reference: 'ssh -J over loopback, same program',
	targets: [atLeast(1, '>= ssh -J', ({ n, ratio }) => (n >= 16 ? ratio?.median : undefined))],
	sizes: { full: [4, 40, 400], quick: [4, 16] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 90,
	async open() {
		const lines = await TerminalLines.open();
		return { run: (n) => bulkSample(lines, n), [Symbol.asyncDispose]: () => lines[Symbol.asyncDispose]() };
	},
};

/** `n` MB through both; CPU time a MB of each process of ours (the command's with its start). */
export async function bulkSample(lines: TerminalLines, n: number): Promise<Sample> {
	const command = ['head', '-c', String(n * 1_000_000), '/dev/zero'];
	const rate = async (measured: ReturnType<typeof lines.oursBulk>) => {
		const { bytes, ms } = await measured;
		assert(bytes === n * 1_000_000, `${bytes} bytes arrived`);
		return bytes / 1000 / ms;
	};
	const before = lines.cpuUs();
	const value = await rate(lines.oursBulk(command));
	const spent = cpuPerTask(before, lines.cpuUs(), n * 1000);
	const also = {
		controlPlaneCpuMsPerMB: spent.controlPlaneCpuUsPerTask ?? 0,
		agentCpuMsPerMB: spent.agentCpuUsPerTask ?? 0,
		ptyHostCpuMsPerMB: spent.ptyHostCpuUsPerTask ?? 0,
		commandCpuMsPerMB: spent.endedCpuUsPerTask ?? 0,
	};
	return { value, reference: await rate(lines.sshBulk(command)), also };
}
