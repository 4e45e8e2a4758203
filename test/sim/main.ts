import { parseArgs } from 'node:util';
import { systemClock } from '../../kit/clock.ts';
import { checkSeed, runSeed, type SeedResult } from './run.ts';

/**
 * `npm run sim -- --seeds 5000 [--from N]`: many seeds, each twice. `npm run sim -- --seed N [--trace]`: one seed again.
 * Ends with 1 when a seed failed, after printing how to see it again.
 */
const { values } = parseArgs({
	options: {
		seed: { type: 'string' },
		seeds: { type: 'string', default: '100' },
		from: { type: 'string', default: '1' },
		trace: { type: 'boolean', default: false },
	},
});

function describe({ seed, violations, traceHash, events, tasks, executions, crashes }: SeedResult): string {
	const facts = `${events} events, ${tasks} tasks, ${executions} executions, ${crashes} crashes of the control plane`;
	if (violations.length === 0) return `seed ${seed} ok: ${facts}, trace ${traceHash.slice(0, 16)}`;
	const lines = violations.map(
		({ checker, message, atMs }) => `  ${checker} at ${(atMs / 1000).toFixed(3)} s: ${message}`,
	);
	return [`seed ${seed} FAILED: ${facts}`, ...lines, `  see it again: npm run sim -- --seed ${seed} --trace`].join(
		'\n',
	);
}

async function one(seed: number): Promise<boolean> {
	const print = values.trace ? (line: string) => console.log(line) : undefined;
	// Now, because the first line opens the pipe that it is written to, and the run would find it open.
	console.log(`seed ${seed}`);
	const result = print === undefined ? await checkSeed(seed) : await runSeed(seed, { print });
	console.log(describe(result));
	return result.violations.length === 0;
}

async function many(from: number, count: number): Promise<boolean> {
	const startMs = systemClock.monotonic();
	let failed = 0;
	for (let seed = from; seed < from + count; seed += 1) {
		const result = await checkSeed(seed);
		if (result.violations.length > 0) {
			failed += 1;
			console.log(describe(result));
		}
		const done = seed - from + 1;
		if (done % 100 === 0) console.log(`${done} of ${count} seeds, ${failed} failed`);
	}
	const seconds = (systemClock.monotonic() - startMs) / 1000;
	console.log(
		`${count} seeds in ${seconds.toFixed(1)} s (${(count / seconds).toFixed(1)} a second, each twice), ${failed} failed`,
	);
	return failed === 0;
}

const isFine =
	values.seed === undefined ? await many(Number(values.from), Number(values.seeds)) : await one(Number(values.seed));
if (!isFine) process.exitCode = 1;
