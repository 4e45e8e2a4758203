import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PROBE_LIMITS_DEFAULT } from '../../agent/probe/findings.ts';
import { ProbeKeeper } from '../../agent/probe/keeper.ts';
import { PidFile } from '../../agent/probe/pid-file.ts';
import type { ProbeListeners } from '../../agent/probe/probe-process.ts';
import type { ProbeSample } from '../../agent/probe/protocol.ts';
import { GpuWatch } from '../../agent/telemetry/gpu-watch.ts';
import { HealthFacts } from '../../agent/telemetry/health-facts.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';

/**
 * A driver that is in trouble for days, in virtual time: whatever it does again and again, the agent's memory is flat. The
 * probe is one that answers what the test says; the real one is in gpu-probe.test.ts.
 */
const { hungAfterMs, backoffMaxMs, fastDeadlineMs } = PROBE_LIMITS_DEFAULT;
const OPENED = { driver: '1', nvml: '1', cuda: 0, isSimulated: true, missing: [] };
const WARM = 200;
const MORE = 600;
const ROUNDS = 3;

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'driver-memory-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What is left after everything that nobody holds is gone. */
function heapBytes(): number {
	setFlagsFromString('--expose-gc');
	const collect = runInNewContext('gc') as () => void;
	// What the first frees may hold what the second frees.
	collect();
	collect();
	return process.memoryUsage().heapUsed;
}

function sampleOf(nvmlStatus: number): ProbeSample {
	const values = Float64Array.from(GPU_VALUES, ({ key }) => (key === 'nvml.status' ? nvmlStatus : Number.NaN));
	return {
		...{ gpus: [{ id: 'GPU-a', index: 0, values }], slices: [], slow: undefined, events: [], isListChanged: false },
		cost: { sampleMs: 1, calls: 1, callMaxMs: 1, callMax: '', rssBytes: 0, cpuSeconds: 0 },
	};
}

function start() {
	const clock = new VirtualClock();
	const found = { findings: 0, facts: 0 };
	let probe: ProbeListeners | undefined;
	let lastId = 0;
	const keeper = new ProbeKeeper({
		...{ clock, rng: systemRng, log: silentLogger, limits: PROBE_LIMITS_DEFAULT },
		...{ pidFile: new PidFile(join(folder, 'pid')), tracePath: join(folder, 'call') },
		start: (listeners) => {
			probe = listeners;
			const send = ({ id }: { readonly id: number }) => {
				lastId = id;
			};
			return { pid: process.pid, send, kill: () => undefined, abandon: () => undefined };
		},
		readEvidence: () => ({ state: 'S', waitsIn: '', stack: '' }),
		onFinding: () => {
			found.findings += 1;
		},
	});
	const facts = new HealthFacts({
		...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => true },
		append: () => {
			found.facts += 1;
		},
	});
	const watch = new GpuWatch(facts);
	keeper.start();
	const isOpen = () => probe?.onAnswer({ id: lastId, op: 'open', opened: OPENED });
	const answer = (nvmlStatus: number) => probe?.onAnswer({ id: lastId, op: 'sample', sample: sampleOf(nvmlStatus) });
	isOpen();
	const see = async (sampling: Promise<ProbeSample | undefined>) => {
		const sample = await sampling;
		if (sample !== undefined) watch.observe(sample, clock.monotonic());
		return sample !== undefined;
	};
	return { clock, keeper, found, isOpen, answer, see, exit: () => probe?.onExit('signal SIGKILL') };
}

type Driver = ReturnType<typeof start>;

const TROUBLES: readonly (readonly [what: string, once: (driver: Driver, turn: number) => Promise<void>])[] = [
	[
		'hangs',
		async ({ clock, keeper, see, exit, isOpen }) => {
			const seen = see(keeper.sample(true));
			clock.advance(hungAfterMs);
			expect([await seen, keeper.state]).toEqual([false, 'hung']);
			exit();
			clock.advance(backoffMaxMs);
			isOpen();
		},
	],
	[
		'answers too late',
		async ({ clock, keeper, see, answer }) => {
			const seen = see(keeper.sample(false));
			clock.advance(fastDeadlineMs);
			expect([await seen, keeper.state]).toEqual([false, 'slow']);
			answer(0);
			// What waited for the answer waits no more.
			expect([keeper.state, clock.pending]).toEqual(['running', 0]);
			clock.advance(15_000);
		},
	],
	[
		'loses a GPU that comes back',
		async ({ clock, keeper, see, answer }, turn) => {
			const seen = see(keeper.sample(false));
			answer(turn % 2 === 0 ? 15 : 0);
			expect(await seen).toBe(true);
			clock.advance(15_000);
		},
	],
];

test.each(TROUBLES)('a driver that %s again and again leaves nothing behind', async (_what, once) => {
	const driver = start();
	for (let turn = 0; turn < WARM; turn += 1) await once(driver, turn);
	const perTurn: number[] = [];
	for (let round = 0; round < ROUNDS; round += 1) {
		const before = heapBytes();
		for (let turn = 0; turn < MORE; turn += 1) await once(driver, turn);
		perTurn.push((heapBytes() - before) / MORE);
	}
	expect(driver.found.findings + driver.found.facts).toBeGreaterThan(100);
	driver.clock.advance(120_000);
	expect(driver.clock.pending).toBe(0);
	// A request that is kept takes 1000 bytes, each time; what the collector leaves by chance is some 100, most times.
	expect(Math.min(...perTurn)).toBeLessThan(500);
});
