import { Agent, get } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { keepAlive, sleep, systemClock } from '../../kit/clock.ts';
import { serveParent } from './child.ts';
import { percentile } from './measure.ts';

/**
 * Scrapes the pages of nodes as Prometheus does: each once a period, evenly spread over it, some at once, over
 * connections that stay, packed.
 */
export interface PageScraperSettings {
	readonly port: number;
	readonly periodMs: number;
}

/** The nodes to scrape from now on, or what was done. */
export type PageScraperQuestion = readonly string[] | 'usage';

/** Since the last question. */
export interface PageScraperUsage {
	readonly ms: number;
	readonly pages: number;
	readonly pagesDue: number;
	/** Not 200, or too late. */
	readonly failed: number;
	/** From the moment that it was due to its last byte. */
	readonly p99Ms: number;
	readonly maxMs: number;
	readonly packedBytes: number;
	/** Of one page, unpacked. */
	readonly pageBytes: number;
}

const TICK_MS = 5;
const AT_ONCE = 64;
/** Prometheus' own default. */
const TIMEOUT_MS = 10_000;
/** Of Prometheus 3. */
const HEADERS = {
	'user-agent': 'Prometheus/3.5.0',
	accept:
		'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1',
	'accept-encoding': 'gzip',
	'x-prometheus-scrape-timeout-seconds': '10',
};

const { port, periodMs } = JSON.parse(process.argv[2] ?? '') as PageScraperSettings;
using _alive = keepAlive();
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
let nodeIds: readonly string[] = [];
let fromMs = Number.POSITIVE_INFINITY;
let next = 0;
let failed = 0;
let packedBytes = 0;
let pageBytes = 0;
let latencies: number[] = [];
let last = { atMs: systemClock.monotonic(), due: 0 };
await serveParent<PageScraperQuestion>(null, async (question) => {
	if (question !== 'usage') void scrape(question);
	return usage();
});
process.exit();

async function scrape(ids: readonly string[]): Promise<void> {
	nodeIds = ids;
	fromMs = systemClock.monotonic();
	for (;;) {
		for (const due = pagesDue(); next < due; next += 1) page(next);
		await sleep(systemClock, TICK_MS);
	}
}

function page(number: number): void {
	const dueMs = fromMs + (number / nodeIds.length) * periodMs;
	const path = `/metrics/nodes/${nodeIds[number % nodeIds.length]}`;
	const fail = () => {
		failed += 1;
	};
	const request = get({ host: '127.0.0.1', port, path, headers: HEADERS, agent, timeout: TIMEOUT_MS }, (response) => {
		const chunks: Buffer[] = [];
		response.on('data', (chunk: Buffer) => chunks.push(chunk));
		response.on('end', () => {
			if (response.statusCode !== 200) return fail();
			const body = Buffer.concat(chunks);
			packedBytes += body.length;
			latencies.push(systemClock.monotonic() - dueMs);
			if (pageBytes === 0) pageBytes = gunzipSync(body).length;
		});
	});
	request.on('timeout', () => request.destroy(new Error('the page took too long')));
	request.on('error', fail);
}

function pagesDue(): number {
	return Math.max(0, Math.floor(((systemClock.monotonic() - fromMs) / periodMs) * nodeIds.length));
}

function usage(): PageScraperUsage {
	const now = { atMs: systemClock.monotonic(), due: pagesDue() };
	const none = latencies.length === 0;
	const result = {
		ms: now.atMs - last.atMs,
		pages: latencies.length,
		pagesDue: now.due - last.due,
		failed,
		p99Ms: none ? 0 : percentile(latencies, 99),
		maxMs: none ? 0 : Math.max(...latencies.slice(-100_000)),
		packedBytes,
		pageBytes,
	};
	last = now;
	failed = 0;
	packedBytes = 0;
	latencies = [];
	return result;
}
