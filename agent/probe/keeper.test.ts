import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Rng, systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { PROBE_LIMITS_DEFAULT } from './findings.ts';
import { ProbeKeeper } from './keeper.ts';
import { PidFile } from './pid-file.ts';
import type { ProbeListeners } from './probe-process.ts';

/** Time is virtual here; the real process is in test/integration/gpu-probe.test.ts. */
const UNTIL_MS = 120_000;
const { byeMs, fastDeadlineMs, hungAfterMs, quiesceMs, backoffBaseMs, backoffMaxMs } = PROBE_LIMITS_DEFAULT;

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'keeper-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A running probe that ends when the test says so, whatever it is sent. */
function startRunning(rng: Rng = systemRng) {
	const clock = new VirtualClock();
	const probes: ProbeListeners[] = [];
	const signals: string[] = [];
	const keeper = new ProbeKeeper({
		clock,
		rng,
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

describe('a probe that ends again and again', () => {
	it('is started again later each time, up to the bound', () => {
		// In the middle of what jitter may give.
		const { clock, probes } = startRunning({ ...systemRng, float: () => 0.5 });
		const waitsMs: number[] = [];
		for (let ends = 1; ends <= 8; ends += 1) {
			probes.at(-1)?.onExit('exit code 1');
			const fromMs = clock.monotonic();
			while (probes.length === ends && clock.monotonic() - fromMs < 2 * backoffMaxMs) clock.advance(1000);
			waitsMs.push(clock.monotonic() - fromMs);
		}
		const bound = backoffMaxMs / 2;
		expect(waitsMs).toEqual([1, 2, 4, 8, 16, 32, 64, 128].map((times) => Math.min(bound, times * backoffBaseMs)));
	});
});

describe('an agent that stops', () => {
	/** What the driver is in when the agent goes, and how long that may cost. */
	const TROUBLES: readonly (readonly [
		what: string,
		trouble: (of: ReturnType<typeof startRunning>) => void,
		ms: number,
	])[] = [
		['does nothing', () => undefined, byeMs],
		['is in a call', ({ keeper }) => void keeper.sample(false), byeMs],
		[
			'is late',
			({ keeper, clock }) => {
				void keeper.sample(false);
				clock.advance(fastDeadlineMs);
				expect(keeper.state).toBe('slow');
			},
			byeMs,
		],
		[
			'hangs',
			({ keeper, clock }) => {
				void keeper.sample(false);
				clock.advance(hungAfterMs);
				expect(keeper.state).toBe('hung');
			},
			0,
		],
	];

	it.each(TROUBLES)('is gone within its goodbye while the driver %s', async (_what, trouble, ms) => {
		const started = startRunning();
		trouble(started);
		const { clock, keeper, signals } = started;
		const before = clock.monotonic();
		let isDone = false;
		const stopped = keeper.stop().then(() => {
			isDone = true;
		});
		clock.advance(Math.max(0, ms - 1));
		await Promise.resolve();
		expect(isDone).toBe(ms === 0);
		clock.advance(Math.min(1, ms));
		await stopped;
		expect([clock.monotonic() - before, keeper.state]).toEqual([ms, 'stopped']);
		// Never by SIGKILL: that can take the GPU with it. One that hangs was asked to end before.
		expect(signals.at(-1)).toBe('SIGTERM');
		expect(signals).not.toContain('SIGKILL');
		expect(ms).toBeLessThan(1000);
	});
});
