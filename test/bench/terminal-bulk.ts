import { assert } from '../../kit/assert.ts';
import { BareChain } from './bare-chain.ts';
import { cpuPerTask } from './cpu.ts';
import { atLeast, type Row, type Sample } from './row.ts';
import { type Bulk, bulk, TerminalLines } from './terminal-lines.ts';

/**
 * n MB from a program on the node to ours, through the whole product and through `ssh -J`; and through processes of Node
 * that only pass them on (bare-chain.ts), which is what is left to win.
 */
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
		await using begun = new AsyncDisposableStack();
		const lines = begun.use(await TerminalLines.open());
		const chain = begun.use(await BareChain.start());
		const close = begun.move();
		return {
			run: async (n) => {
				const { also, ...sample } = await bulkSample(lines, n);
				const bareMBps = rateOf(n, await bulk(chain.argv(n * 1_000_000), lines.env));
				return { ...sample, also: { ...also, bareChainMBps: bareMBps } };
			},
			[Symbol.asyncDispose]: () => close.disposeAsync(),
		};
	},
};

/** `n` MB through both; CPU time a MB of each process of ours (the command's with its start). */
export async function bulkSample(lines: TerminalLines, n: number): Promise<Sample> {
	const command = ['head', '-c', String(n * 1_000_000), '/dev/zero'];
	const before = lines.cpuUs();
	const value = rateOf(n, await lines.oursBulk(command));
	const spent = cpuPerTask(before, lines.cpuUs(), n * 1000);
	const also = {
		controlPlaneCpuMsPerMB: spent.controlPlaneCpuUsPerTask ?? 0,
		agentCpuMsPerMB: spent.agentCpuUsPerTask ?? 0,
		ptyHostCpuMsPerMB: spent.ptyHostCpuUsPerTask ?? 0,
		commandCpuMsPerMB: spent.endedCpuUsPerTask ?? 0,
	};
	return { value, reference: rateOf(n, await lines.sshBulk(command)), also };
}

/** In MB/s. */
function rateOf(n: number, { bytes, ms }: Bulk): number {
	assert(bytes === n * 1_000_000, `${bytes} bytes arrived`);
	return bytes / 1000 / ms;
}
