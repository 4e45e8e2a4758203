import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TelemetryIngest } from '../../control-plane/app/telemetry/ingest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from '../../control-plane/app/telemetry/limits.ts';
import { RollupWriter } from '../../control-plane/app/telemetry/rollup-writer.ts';
import { RollupFile } from '../../control-plane/store/sqlite/rollups.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { timed } from './measure.ts';
import { atLeast, type Row } from './row.ts';
import { decode, directoryOf, frameBytes, nodeIds } from './telemetry-fixture.ts';

/**
 * Telemetry frames of n *simulated* nodes with 8 GPUs each, from their bytes to the newest sample and the open minute of
 * history, on one core. The reference only decodes them.
 */
const FRAMES = 10_000;

export const row: Row = {
	name: 'telemetry-ingest',
	what: 'telemetry frames taken in, on one core',
	unit: '1/s',
	per: 'nodes',
	reference: 'decoding the same frames',
	targets: [atLeast(1000, '>= 1,000/s: 10,000 nodes every 10 s', ({ value }) => value.median)],
	sizes: { full: [100, 1000, 10_000], quick: [100] },
	repetitions: { full: 3, quick: 1 },
	budgetSeconds: 60,
	open: async () => ({ run, [Symbol.asyncDispose]: async () => {} }),
};

async function run(n: number) {
	const ids = nodeIds(n);
	const bytes = frameBytes();
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-telemetry-'));
	try {
		await using rollups = new RollupFile({ path: join(folder, 'history.db') });
		const history = { rollups, retentionMs: 1e9, bytesMax: 1e9 };
		await using writer = new RollupWriter({ clock: systemClock, log: silentLogger, ...history });
		const limits = { ...TELEMETRY_LIMITS_DEFAULT, framesPerSecondMax: 1e9, framesBurstMax: 1e9 };
		const ingest = new TelemetryIngest({ clock: systemClock, log: silentLogger, directory: directoryOf(ids), limits });
		ingest.listen(writer);
		const each = (work: (nodeId: string, frame: Uint8Array) => void) =>
			timed(() => {
				for (let done = 0; done < FRAMES; done += 1)
					work(ids[done % n] as string, bytes[Math.floor(done / n) % 4] as Uint8Array);
			});
		const ms = await each((nodeId, frame) => ingest.ingest(nodeId, decode(frame)));
		const bareMs = await each((_, frame) => void decode(frame));
		const sizes = bytes.map(({ length }) => length);
		return {
			value: (FRAMES / ms) * 1000,
			reference: (FRAMES / bareMs) * 1000,
			also: {
				bytesPerFrame: sizes.reduce((sum, size) => sum + size, 0) / sizes.length,
				bytesOfFastFrame: Math.min(...sizes),
				refused: [...ingest.refused.values()].reduce((sum, count) => sum + count, 0),
			},
		};
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}
