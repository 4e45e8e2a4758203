import { hopBudget } from './hops.ts';
import { percentile } from './measure.ts';
import { atMost, type Row } from './row.ts';
import { TerminalLines } from './terminal-lines.ts';

/**
 * From a key to its echo, one after another: the command in a real terminal, through API, gateway, agent and pty host to
 * `cat` on a pty and back. The reference is the same through `ssh -J`. The target is a difference, so it is reported
 * beside the two. Where the time goes is measured apart (hops.ts), on a product of its own.
 */
export const row: Row = {
	name: 'terminal-echo',
	what: 'key -> echo, p50 of n',
	unit: 'ms',
	per: 'keys',
	reference: 'ssh -J over loopback, same program',
	targets: [atMost(1, 'p50 <= 1 ms over ssh -J', ({ also }) => also.overSshMs?.median)],
	sizes: { full: [30, 300, 3000], quick: [30, 300] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 60,
	async open() {
		const lines = await TerminalLines.open();
		let hops: Record<string, number> | undefined;
		return {
			async run(n) {
				const { oursMs, sshMs } = await echoes(lines, n);
				if (n >= HOPS_FROM) hops ??= await hopBudget(n);
				const [value, reference] = [percentile(oursMs, 50), percentile(sshMs, 50)];
				const also = {
					overSshMs: value - reference,
					p99Ms: percentile(oursMs, 99),
					sshP99Ms: percentile(sshMs, 99),
					...(n >= HOPS_FROM ? hops : {}),
				};
				return { value, reference, also };
			},
			[Symbol.asyncDispose]: () => lines[Symbol.asyncDispose](),
		};
	},
};

const HOPS_FROM = 300;
const WARM_KEYS = 50;

/** Alternating, on lines of their own. */
export async function echoes(lines: TerminalLines, keys: number) {
	using ours = lines.ours('sh', '-c', ECHO);
	using ssh = lines.ssh(ECHO);
	await Promise.all([ours.sees('READY'), ssh.sees('READY')]);
	const oursMs: number[] = [];
	const sshMs: number[] = [];
	for (let done = -WARM_KEYS; done < keys; done += 1) {
		const [our, their] = [await ours.echo('x'), await ssh.echo('x')];
		if (done < 0) continue;
		oursMs.push(our);
		sshMs.push(their);
	}
	return { oursMs, sshMs };
}

export const ECHO = 'stty raw -echo; echo READY; exec cat';
