import { daemonNodeArgs } from '../../cli/daemon.ts';
import { BenchChild } from './child.ts';
import type {
	FleetTelemetryQuestion,
	FleetTelemetryReady,
	FleetTelemetrySettings,
	FleetTelemetryUsage,
} from './fleet-telemetry-main.ts';
import type { PageScraperQuestion, PageScraperSettings, PageScraperUsage } from './page-scraper-main.ts';
import { atMost, type Row, type Sample } from './row.ts';
import type { UnaryCallerAnswer, UnaryCallerQuestion, UnaryCallerSettings } from './unary-caller-main.ts';

/**
 * n *simulated* nodes with 8 GPUs each on one control plane, every 15 s a frame from its bytes on, each page scraped once
 * in that time, history written: CPU and memory of its process, and what an API call takes meanwhile. Scraper and caller
 * are processes of their own; links are not in it (see idle-agents). The reference is the same call before the first frame.
 * First the fleet reports and is scraped until each node was judged; then the window begins, a whole number of the minutes
 * that history is made of. `--patient` watches the largest for ten minutes.
 */
const PERIOD_MS = 15_000;
const QUIET_MS = 5000;
const WARM_UP_MS = 30_000;
const WINDOW_MS = 60_000;
const PATIENT_WINDOW_MS = 600_000;
const FULL_SIZE = 10_000;
const PAUSE_MS = 20;
/** Fewer than these of what was due: then the CPU time is of less than the row says. */
const DONE_MIN = 0.99;

export const row: Row = {
	name: 'telemetry-fleet',
	what: 'p99 of GetNode while n nodes report',
	unit: 'ms',
	per: 'nodes',
	reference: 'p99 of the same call while none reports',
	targets: [
		atMost(100, '10,000 nodes in < 100 % of a core with scrapes', ({ n, also }) => {
			if (n !== FULL_SIZE) return undefined;
			const isAll = (also.framesDone?.min ?? 0) >= DONE_MIN && (also.pagesDone?.min ?? 0) >= DONE_MIN;
			return isAll ? also.cpuPercent?.median : Number.POSITIVE_INFINITY;
		}),
	],
	sizes: { full: [100, 1000, FULL_SIZE], quick: [100] },
	repetitions: { full: 1, quick: 1 },
	budgetSeconds: 600,
	open: async () => ({ run, [Symbol.asyncDispose]: async () => {} }),
};

async function run(n: number): Promise<Sample> {
	const windowMs = n === FULL_SIZE && process.argv.includes('--patient') ? PATIENT_WINDOW_MS : WINDOW_MS;
	const settings: FleetTelemetrySettings = { nodes: n, periodMs: PERIOD_MS };
	await using plane = new BenchChild('./fleet-telemetry-main.ts', settings, daemonNodeArgs('control-plane'));
	const { url, rootPem, key, pagesPort, nodeIds } = (await plane.ready) as FleetTelemetryReady;
	const scraped: PageScraperSettings = { port: pagesPort, periodMs: PERIOD_MS };
	await using scraper = new BenchChild('./page-scraper-main.ts', scraped);
	const called: UnaryCallerSettings = { url, rootPem, key, node: nodeIds[0] ?? '' };
	await using caller = new BenchChild('./unary-caller-main.ts', called);
	await Promise.all([scraper.ready, caller.ready]);
	const call = (forMs: number) => caller.ask<UnaryCallerAnswer>({ forMs, pauseMs: PAUSE_MS } as UnaryCallerQuestion);
	const plan = (question: FleetTelemetryQuestion) => plane.ask<FleetTelemetryUsage>(question);
	const pages = (question: PageScraperQuestion) => scraper.ask<PageScraperUsage>(question);

	await call(1000);
	const quiet = await call(QUIET_MS);
	await plan('feed');
	const first = await call(PERIOD_MS);
	// A page is there from its first frame on.
	await pages(nodeIds);
	const second = await call(WARM_UP_MS);
	await Promise.all([plan('usage'), pages('usage')]);
	const busy = await call(windowMs);
	const [usage, seen] = await Promise.all([plan('usage'), pages('usage')]);
	if (usage.framesRefused > 0 || seen.failed > 0)
		throw new Error(`${usage.framesRefused} frames were refused, ${seen.failed} pages failed`);
	return {
		value: busy.p99Ms,
		reference: quiet.p99Ms,
		also: {
			cpuPercent: usage.cpuUs / 10 / usage.ms,
			rssMB: usage.rssBytes / 1e6,
			framesPerSecond: (usage.frames / usage.ms) * 1000,
			/** Of those that were due, as a part of 1. */
			framesDone: usage.frames / usage.framesDue,
			pagesPerSecond: (seen.pages / seen.ms) * 1000,
			pagesDone: seen.pages / seen.pagesDue,
			pageP99Ms: seen.p99Ms,
			pageMaxMs: seen.maxMs,
			pageKB: seen.pageBytes / 1000,
			packedKB: seen.packedBytes / seen.pages / 1000,
			p50Ms: busy.p50Ms,
			maxMs: busy.maxMs,
			loopLateMaxMs: usage.loopLateMsMax,
			beginningP99Ms: Math.max(first.p99Ms, second.p99Ms),
			beginningMaxMs: Math.max(first.maxMs, second.maxMs),
		},
	};
}
