import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { PROBE_LIMITS_DEFAULT } from './findings.ts';
import { ProbeKeeper } from './keeper.ts';
import { PidFile } from './pid-file.ts';
import type { ProbeListeners } from './probe-process.ts';

/** Time is virtual here; the real process is in test/integration/gpu-probe.test.ts. */
const UNTIL_MS = 120_000;
const { quiesceMs, backoffMaxMs } = PROBE_LIMITS_DEFAULT;

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'keeper-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A running probe that ends when the test says so, whatever it is sent. */
function startRunning() {
	const clock = new VirtualClock();
	const probes: ProbeListeners[] = [];
	const signals: string[] = [];
	const keeper = new ProbeKeeper({
		clock,
		rng: systemRng,
		log: silentLogger,
		limits: PROBE_LIMITS_DEFAULT,
		start: (listeners) => {
			probes.push(listeners);
			const kill = (signal: string) => void signals.push(signal);
			return { pid: process.pid, send: () => undefined, kill, abandon: () => undefined };
		},
		pidFile: new PidFile(join(folder, 'pid')),
		tracePath: join(folder, 'call'),
		onFinding: () => undefined,
	});
	keeper.start();
	const opened = { driver: '1', nvml: '1', cuda: 0, isSimulated: true, missing: [] };
	probes[0]?.onAnswer({ id: 1, op: 'open', opened });
	expect(keeper.state).toBe('running');
	return { clock, keeper, probes, signals };
}

/** The probe doesn't let go in time, and is killed. */
async function quiesceSlowly() {
	const started = startRunning();
	const { clock, keeper, signals } = started;
	const isFree = keeper.quiesce(clock.now() + UNTIL_MS);
	clock.advance(quiesceMs);
	expect([await isFree, keeper.state]).toEqual([false, 'hung']);
	clock.advance(PROBE_LIMITS_DEFAULT.killGraceMs);
	expect(signals).toEqual(['SIGTERM', 'SIGKILL']);
	return started;
}

describe('a probe that hangs while it should let go of the driver', () => {
	it('is started again when the time is over and it is gone', async () => {
		const { clock, keeper, probes } = await quiesceSlowly();
		probes[0]?.onExit('signal SIGKILL');
		expect(keeper.state).toBe('quiesced');
		clock.advance(UNTIL_MS - quiesceMs - PROBE_LIMITS_DEFAULT.killGraceMs - 1);
		expect(probes).toHaveLength(1);
		clock.advance(1);
		expect([probes.length, keeper.state]).toEqual([2, 'starting']);
	});

	it('is started again when it is gone only after the time is over', async () => {
		const { clock, keeper, probes } = await quiesceSlowly();
		clock.advance(UNTIL_MS);
		expect(keeper.state).toBe('hung');
		probes[0]?.onExit('signal SIGKILL');
		clock.advance(backoffMaxMs);
		expect(probes).toHaveLength(2);
	});

	it('is started again when somebody resumed meanwhile', async () => {
		const { clock, keeper, probes } = await quiesceSlowly();
		keeper.resume();
		expect(keeper.state).toBe('hung');
		probes[0]?.onExit('signal SIGKILL');
		expect(keeper.state).toBe('restarting');
		clock.advance(backoffMaxMs);
		expect(probes).toHaveLength(2);
	});

	it('stays away when the agent stops meanwhile', async () => {
		const { clock, keeper, probes } = await quiesceSlowly();
		await keeper.stop();
		probes[0]?.onExit('signal SIGKILL');
		clock.advance(UNTIL_MS);
		expect([probes.length, keeper.state]).toEqual([1, 'stopped']);
	});
});

describe('a driver that hangs again and again', () => {
	/** What is left after everything that nobody holds is gone. */
	function heapBytes(): number {
		setFlagsFromString('--expose-gc');
		const collect = runInNewContext('gc') as () => void;
		// What the first frees may hold what the second frees.
		collect();
		collect();
		return process.memoryUsage().heapUsed;
	}

	it('leaves nothing behind of a hang that is over', async () => {
		const clock = new VirtualClock();
		let probe: ProbeListeners | undefined;
		let hangs = 0;
		const keeper = new ProbeKeeper({
			...{ clock, rng: systemRng, log: silentLogger, limits: PROBE_LIMITS_DEFAULT },
			...{ pidFile: new PidFile(join(folder, 'pid')), tracePath: join(folder, 'call') },
			start: (listeners) => {
				probe = listeners;
				return { pid: process.pid, send: () => undefined, kill: () => undefined, abandon: () => undefined };
			},
			readEvidence: () => ({ state: 'S', waitsIn: '', stack: '' }),
			onFinding: ({ kind }) => {
				if (kind === 'hung') hangs += 1;
			},
		});
		keeper.start();
		const opened = { driver: '1', nvml: '1', cuda: 0, isSimulated: true, missing: [] };
		const hang = async () => {
			probe?.onAnswer({ id: 1, op: 'open', opened });
			const sampled = keeper.sample(true);
			clock.advance(PROBE_LIMITS_DEFAULT.hungAfterMs);
			expect([await sampled, keeper.state]).toEqual([undefined, 'hung']);
			probe?.onExit('signal SIGKILL');
			clock.advance(backoffMaxMs);
		};
		for (let n = 0; n < WARM; n += 1) await hang();
		const before = heapBytes();
		for (let n = 0; n < MORE; n += 1) await hang();
		const perHang = (heapBytes() - before) / MORE;
		expect([hangs, clock.pending]).toEqual([WARM + MORE, 0]);
		// A request that is kept takes 1000 bytes; what the collector leaves by chance is some 100.
		expect(perHang).toBeLessThan(500);
	});
});

const WARM = 200;
const MORE = 600;
