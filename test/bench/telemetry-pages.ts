import { TelemetryIngest } from '../../control-plane/app/telemetry/ingest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from '../../control-plane/app/telemetry/limits.ts';
import { XidCounts } from '../../control-plane/app/telemetry/xid-counts.ts';
import { nodePage } from '../../control-plane/ops/node-page.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { timed } from './measure.ts';
import { atLeast, type Row } from './row.ts';
import { decode, directoryOf, frameBytes, nodeIds } from './telemetry-fixture.ts';

/**
 * Metrics pages of n *simulated* nodes with 8 GPUs each, rendered to bytes on one core: all names, and dcgm-exporter's
 * alone. The reference makes the bytes of as many lines of the same length that it has ready.
 */
const PAGES = 2000;

export const row: Row = {
	name: 'telemetry-pages',
	what: 'node pages rendered, on one core',
	unit: '1/s',
	per: 'nodes',
	reference: 'the same bytes from lines that are ready',
	targets: [atLeast(667, '10,000 node pages per 15 s on one core', ({ value }) => value.median)],
	sizes: { full: [100, 1000, 10_000], quick: [100] },
	repetitions: { full: 3, quick: 1 },
	budgetSeconds: 90,
	open: async () => ({ run, [Symbol.asyncDispose]: async () => {} }),
};

async function run(n: number) {
	const ids = nodeIds(n);
	const directory = directoryOf(ids);
	const ingest = new TelemetryIngest({
		clock: systemClock,
		log: silentLogger,
		directory,
		limits: TELEMETRY_LIMITS_DEFAULT,
	});
	const [whole] = frameBytes();
	for (const id of ids) ingest.ingest(id, decode(present(whole, 'a frame')));
	const page = (index: number, names: readonly ('gpuaas' | 'dcgm')[]) => {
		const id = ids[index % n] as string;
		const sample = present(ingest.latest.get(id), 'a sample');
		const options = { names: new Set(names), hostnameLabel: 'Hostname', namesCustomers: false, xids, health } as const;
		return Buffer.from(nodePage(directory.get(id), sample, 100, options).join(''));
	};
	const xids = new XidCounts();
	// What verdicts add is a twentieth of a page.
	const health = { verdictsOf: () => [], isQuarantined: () => false };
	let bytes = 0;
	const render = (names: readonly ('gpuaas' | 'dcgm')[]) =>
		timed(() => {
			for (let index = 0; index < PAGES; index += 1) bytes = page(index, names).length;
		});
	const dcgmMs = await render(['dcgm']);
	const dcgmBytes = bytes;
	const ms = await render(['gpuaas', 'dcgm']);
	const lines = page(0, ['gpuaas', 'dcgm']).toString('utf8').split('\n');
	const bareMs = await timed(() => {
		for (let index = 0; index < PAGES; index += 1) bytes = Buffer.from(lines.join('\n')).length;
	});
	return {
		value: (PAGES / ms) * 1000,
		reference: (PAGES / bareMs) * 1000,
		also: {
			dcgmPagesPerSecond: (PAGES / dcgmMs) * 1000,
			kBPerPage: bytes / 1000,
			kBPerDcgmPage: dcgmBytes / 1000,
			series: lines.filter((line) => line !== '' && !line.startsWith('#')).length,
		},
	};
}
