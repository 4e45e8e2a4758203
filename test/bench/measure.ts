import { availableParallelism, loadavg, totalmem } from 'node:os';
import { present } from '../../kit/assert.ts';
import { sleep, systemClock } from '../../kit/clock.ts';
import type { Machine, Point, Result, Row, Sample, Spread } from './row.ts';

export interface MeasureOptions {
	readonly quick: boolean;
	/** Every size, however long it takes. */
	readonly patient: boolean;
}

/** Runs a row and folds its repetitions. */
export async function measureRow(row: Row, { quick, patient }: MeasureOptions): Promise<Result> {
	const machine = machineFacts();
	const startedMs = systemClock.monotonic();
	const budgetMs = patient ? Number.POSITIVE_INFINITY : row.budgetSeconds * (quick ? 250 : 1000);
	const left = () => startedMs + budgetMs - systemClock.monotonic();
	const points: Point[] = [];
	const skipped: number[] = [];
	const took: { readonly n: number; readonly ms: number }[] = [];
	await using bench = await row.open();
	for (const n of quick ? row.sizes.quick : row.sizes.full) {
		if (expectedMs(took, n) > left()) {
			skipped.push(n);
			continue;
		}
		const samples: Sample[] = [];
		const repetitions = quick ? row.repetitions.quick : row.repetitions.full;
		let ms = 0;
		while (samples.length < repetitions && (samples.length === 0 || ms < left())) {
			ms = await timed(async () => samples.push(await bench.run(n)));
		}
		took.push({ n, ms });
		points.push(pointOf(n, samples));
	}
	return {
		row: row.name,
		what: row.what,
		unit: row.unit,
		per: row.per,
		reference: row.reference,
		quick,
		skipped,
		points,
		targets: row.targets.map(({ text, isMet }) => ({ text, met: isMet(points) ?? null })),
		seconds: round((systemClock.monotonic() - startedMs) / 1000),
		machine,
	};
}

/** On a line through the last two sizes. */
function expectedMs(took: readonly { readonly n: number; readonly ms: number }[], n: number): number {
	const [before, last] = took.slice(-2);
	if (before === undefined || last === undefined) return 0;
	return last.ms + (Math.max(0, last.ms - before.ms) * (n - last.n)) / (last.n - before.n);
}

function pointOf(n: number, samples: readonly Sample[]): Point {
	const beside = samples.filter(({ reference }) => reference !== undefined);
	const references = beside.map(({ reference }) => reference ?? 0);
	const ratios = beside.map(({ value, reference }) => value / (reference ?? 1));
	const names = new Set(samples.flatMap(({ also = {} }) => Object.keys(also)));
	const also: Record<string, Spread> = {};
	for (const name of names)
		also[name] = spread(samples.map((sample) => sample.also?.[name]).filter((number) => number !== undefined));
	return {
		n,
		repetitions: samples.length,
		value: spread(samples.map(({ value }) => value)),
		reference: references.length === 0 ? null : spread(references),
		ratio: ratios.length === 0 ? null : spread(ratios),
		also,
	};
}

function spread(numbers: readonly number[]): Spread {
	return {
		median: round(percentile(numbers, 50)),
		min: round(Math.min(...numbers)),
		max: round(Math.max(...numbers)),
	};
}

/** Nearest rank. */
export function percentile(numbers: readonly number[], percent: number): number {
	const sorted = [...numbers].sort((a, b) => a - b);
	const index = Math.min(sorted.length - 1, Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1));
	return present(sorted[index], 'at least one number');
}

/** Three significant digits: the machine doesn't know more. */
export function round(number: number): number {
	return Number(number.toPrecision(3));
}

/** Milliseconds that `work` took. */
export async function timed(work: () => unknown): Promise<number> {
	const startedMs = systemClock.monotonic();
	await work();
	return systemClock.monotonic() - startedMs;
}

/** Calls `work`, `callers` at a time, for about `ms`: a busy machine makes the rate less sure, not the run longer. */
export async function rateDuring(
	ms: number,
	callers: number,
	work: () => unknown,
): Promise<{ rate: number; calls: number }> {
	const startedMs = systemClock.monotonic();
	let calls = 0;
	const caller = async () => {
		while (systemClock.monotonic() - startedMs < ms) {
			await work();
			calls += 1;
		}
	};
	await Promise.all(Array.from({ length: callers }, caller));
	return { rate: (calls / (systemClock.monotonic() - startedMs)) * 1000, calls };
}

/**
 * Asks until `isDone`; seldom enough that asking costs what is measured nothing that shows, and often enough that the
 * last period doesn't either: `tasks` are expected to take a few ms each at most.
 */
export async function untilDone(tasks: number, isDone: () => Promise<boolean>): Promise<void> {
	const periodMs = Math.min(100, Math.max(5, tasks / 20));
	while (!(await isDone())) await sleep(systemClock, periodMs);
}

export async function parallel(count: number, callers: number, work: (index: number) => unknown): Promise<void> {
	let next = 0;
	const caller = async () => {
		for (let index = next++; index < count; index = next++) await work(index);
	};
	await Promise.all(Array.from({ length: Math.min(callers, count) }, caller));
}

function machineFacts(): Machine {
	return {
		cores: availableParallelism(),
		memoryGiB: Math.round(totalmem() / 1024 ** 3),
		arch: process.arch,
		node: process.version,
		loadBefore: round(loadavg()[0] ?? 0),
	};
}
