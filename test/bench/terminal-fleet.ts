import { sleep, systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import { processes } from '../integration/up-world.ts';
import { BenchChild } from './child.ts';
import { percentile } from './measure.ts';
import { costOf } from './process-cost.ts';
import { atLeast, atMost, type Row, type Sample } from './row.ts';
import { ECHO } from './terminal-echo.ts';
import type { FleetSettings, FleetViewers } from './terminal-fleet-main.ts';
import { TerminalLines } from './terminal-lines.ts';

/** Coder's published load of a terminal: 4,000 bytes ten times a second, with the carriage returns that it adds. */
const KB_PER_SECOND = 40;
const CHATTY = [
	'perl',
	'-e',
	'$| = 1; $l = ("x" x 78 . "\\n") x 50; while (1) { syswrite STDOUT, $l; select undef, undef, undef, 0.1 }',
];
const WINDOW_MS = 10_000;
const SETTLE_MS = 2000;
const PROCESSES = { controlPlane: 'control-plane/main', agent: 'agent/main', ptyHost: 'pty-host/main' } as const;

/**
 * n recorded terminals that each show 40 kB/s to a viewer of its own; programs, hosts, control plane and viewers share
 * this machine. Measured: what each process takes, what didn't arrive, and what a person at one more terminal feels.
 */
export const row: Row = {
	name: 'terminal-fleet',
	what: `n terminals at ${KB_PER_SECOND} kB/s each: CPU of the control plane`,
	unit: '% of a core',
	per: 'terminals',
	reference: '-',
	targets: [
		atLeast(0.95, '200 terminals get all that is shown', ({ n, also }) =>
			n === 200 ? also.arrivedShare?.median : undefined,
		),
		atLeast(0.9, 'and so does each of them', ({ n, also }) => (n === 200 ? also.arrivedShareMin?.median : undefined)),
		atMost(0, 'nobody falls behind', ({ also }) => also.screens?.max),
	],
	sizes: { full: [2, 20, 200], quick: [20] },
	repetitions: { full: 2, quick: 1 },
	budgetSeconds: 180,
	async open() {
		const lines = await TerminalLines.open();
		return { run: (n) => run(lines, n), [Symbol.asyncDispose]: () => lines[Symbol.asyncDispose]() };
	},
};

async function run(lines: TerminalLines, n: number): Promise<Sample> {
	const settings: FleetSettings = { env: lines.env, node: lines.node, terminals: n, command: CHATTY };
	await using fleet = new BenchChild('./terminal-fleet-main.ts', settings);
	await fleet.ready;
	using line = lines.ours('sh', '-c', ECHO);
	await line.sees('READY');
	await sleep(systemClock, SETTLE_MS);
	const costs = () =>
		Object.fromEntries(Object.entries(PROCESSES).map(([name, text]) => [name, costOf(lines.pids(text)[0] ?? 0)]));
	const [before, counted] = [costs(), await fleet.ask<FleetViewers>('counts')];
	const startedMs = systemClock.monotonic();
	const echoMs: number[] = [];
	while (systemClock.monotonic() - startedMs < WINDOW_MS) {
		echoMs.push(await line.echo('x'));
		await sleep(systemClock, 20);
	}
	const [after, then] = [costs(), await fleet.ask<FleetViewers>('counts')];
	const seconds = (systemClock.monotonic() - startedMs) / 1000;
	await fleet.ask('end');
	// Until their programs are gone they hold places of the node, which the next ones need.
	await eventually('the programs are gone', () => !processes().some(({ line }) => line.includes(CHATTY.at(-1) ?? '')));
	const shown = then.bytes.map(
		(bytes, index) => (bytes - (counted.bytes[index] ?? 0)) / 1000 / seconds / KB_PER_SECOND,
	);
	const also: Record<string, number> = {
		arrivedShare: percentile(shown, 50),
		arrivedShareMin: Math.min(...shown),
		screens: then.screens - counted.screens,
		echoP50Ms: percentile(echoMs, 50),
		echoP99Ms: percentile(echoMs, 99),
	};
	for (const name of Object.keys(PROCESSES)) {
		also[`${name}CpuPercent`] = ((after[name]?.cpuMs ?? 0) - (before[name]?.cpuMs ?? 0)) / seconds / 10;
		also[`${name}PssMB`] = after[name]?.pssMB ?? 0;
	}
	return { value: also.controlPlaneCpuPercent ?? 0, reference: undefined, also };
}
