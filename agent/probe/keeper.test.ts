import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Rng, systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { CRASHED, PROBE_LIMITS_DEFAULT, type ProbeFinding } from './findings.ts';
import { ProbeKeeper } from './keeper.ts';
import { PidFile } from './pid-file.ts';
import type { ProbeListeners, StartProbe } from './probe-process.ts';
import type { ProbeEvent, ProbeRequest } from './protocol.ts';

/** Time is virtual here; the real process is in test/integration/gpu-probe.test.ts. */
const UNTIL_MS = 120_000;
const { byeMs, fastDeadlineMs, hungAfterMs, quiesceMs, backoffBaseMs, backoffMaxMs } = PROBE_LIMITS_DEFAULT;

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'keeper-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const OPENED = { driver: '1', nvml: '1', cuda: 0, isSimulated: true, missing: [] };

/** Probes that end when the test says so, whatever they are sent. */
function startProbes(rng: Rng = systemRng, spawns: (probes: number) => void = () => undefined) {
	const clock = new VirtualClock();
	const probes: ProbeListeners[] = [];
	const signals: string[] = [];
	const sent: ProbeRequest[] = [];
	const findings: ProbeFinding[] = [];
	const start: StartProbe = (listeners) => {
		spawns(probes.push(listeners));
		const kill = (signal: string) => void signals.push(signal);
		return { pid: process.pid, send: (request) => void sent.push(request), kill, abandon: () => undefined };
	};
	const keeper = new ProbeKeeper({
		clock,
		rng,
		log: silentLogger,
		limits: PROBE_LIMITS_DEFAULT,
		start,
		pidFile: new PidFile(join(folder, 'pid')),
		tracePath: join(folder, 'call'),
		onFinding: (finding) => void findings.push(finding),
	});
	keeper.start();
	/** The newest probe's, to what it was asked last. */
	const answer = (more: { readonly events?: readonly ProbeEvent[]; readonly isListChanged?: boolean } = {}) => {
		const cost = { sampleMs: 0, calls: 0, callMaxMs: 0, callMax: '', rssBytes: 0, cpuSeconds: 0 };
		const rest = { slices: [], slow: undefined, events: [], cost, isListChanged: false };
		const sample = { gpus: [], ...rest, ...more };
		probes.at(-1)?.onAnswer({ id: sent.at(-1)?.id ?? 0, op: 'sample', sample });
	};
	return { clock, keeper, probes, signals, sent, findings, answer };
}

/** The first of them runs. */
function startRunning(rng?: Rng) {
	const started = startProbes(rng);
	started.probes[0]?.onAnswer({ id: 1, op: 'open', opened: OPENED });
	expect(started.keeper.state).toBe('running');
	return started;
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

describe('a probe that ends before it measured anything', () => {
	const crash = ({ clock, probes }: ReturnType<typeof startProbes>) => {
		probes.at(-1)?.onAnswer({ id: 0, op: 'ready' });
		probes.at(-1)?.onExit('signal SIGSEGV');
		clock.advance(backoffMaxMs);
	};

	it('is told of at the third time, once, until it gives a sample', async () => {
		const started = startProbes();
		const { keeper, probes, findings, answer } = started;
		crash(started);
		crash(started);
		expect([findings, keeper.fault]).toEqual([[], undefined]);
		crash(started);
		const crashed = { code: CRASHED, message: 'the GPU probe ends by itself: signal SIGSEGV' };
		expect([keeper.state, keeper.fault]).toEqual(['unavailable', crashed]);
		crash(started);
		// It opens the driver and ends all the same.
		probes.at(-1)?.onAnswer({ id: 1, op: 'open', opened: OPENED });
		crash(started);
		expect(findings).toEqual([{ kind: 'unavailable', ...crashed }]);
		probes.at(-1)?.onAnswer({ id: 1, op: 'open', opened: OPENED });
		const sample = keeper.sample(false);
		answer();
		expect(await sample).toBeDefined();
		expect(findings.map(({ kind }) => kind)).toEqual(['unavailable', 'recovered']);
		expect([keeper.state, keeper.fault]).toEqual(['running', undefined]);
		crash(started);
		crash(started);
		expect(keeper.fault).toBeUndefined();
	});

	it('is none of them that the driver refused, or that hung', () => {
		const started = startProbes();
		const { clock, keeper, probes, findings } = started;
		for (let times = 0; times < 5; times += 1) {
			probes.at(-1)?.onAnswer({ id: 0, op: 'ready' });
			clock.advance(hungAfterMs);
			expect(keeper.state).toBe('hung');
			probes.at(-1)?.onExit('signal SIGKILL');
			clock.advance(backoffMaxMs);
		}
		for (let times = 0; times < 5; times += 1) {
			probes.at(-1)?.onAnswer({ id: 1, op: 'open', opened: { code: 'library', message: 'none' } });
			probes.at(-1)?.onExit('exit code 1');
			clock.advance(backoffMaxMs);
		}
		probes.at(-1)?.onAnswer({ id: 1, op: 'open', opened: OPENED });
		crash(started);
		expect(findings.flatMap((finding) => (finding.kind === 'unavailable' ? finding.code : []))).toEqual(['library']);
	});
});

describe('a probe that can not be started or put on record', () => {
	it('is ended before it opens the driver, and tried again until its pid is on record', () => {
		const { clock, keeper, probes, signals, findings } = startProbes(systemRng, (count) => {
			// A folder where the file should be stands for a disk that takes none.
			if (count === 1) mkdirSync(join(folder, 'pid'));
			if (count === 4) rmSync(join(folder, 'pid'), { recursive: true });
		});
		for (let times = 1; times <= 3; times += 1) {
			expect([probes.length, signals.length]).toEqual([times, times]);
			probes.at(-1)?.onExit('signal SIGKILL');
			clock.advance(backoffMaxMs);
		}
		expect(findings).toMatchObject([
			{ kind: 'unavailable', code: CRASHED, message: expect.stringContaining('EISDIR') },
		]);
		expect([probes.length, signals]).toEqual([4, ['SIGKILL', 'SIGKILL', 'SIGKILL']]);
		probes.at(-1)?.onAnswer({ id: 1, op: 'open', opened: OPENED });
		expect(keeper.state).toBe('running');
	});

	it('is tried again where no process can be made', () => {
		const { clock, keeper, probes, findings } = startProbes(systemRng, () => {
			throw new Error('spawn ENOMEM');
		});
		for (let times = 1; times < 3; times += 1) clock.advance(backoffMaxMs);
		expect(probes.length).toBeGreaterThanOrEqual(3);
		expect(findings).toMatchObject([{ code: CRASHED, message: expect.stringContaining('spawn ENOMEM') }]);
		expect(keeper.state).toBe('unavailable');
	});
});

describe('a sample that comes late', () => {
	const XID: ProbeEvent = { uuid: 'GPU-1', type: 8, xid: 79, gpuInstance: 0 };

	it('gives its events and its news to the next', async () => {
		const { clock, keeper, answer } = startRunning();
		const first = keeper.sample(false);
		clock.advance(fastDeadlineMs);
		expect(await first).toBeUndefined();
		answer({ events: [XID], isListChanged: true });
		const second = keeper.sample(false);
		answer({ events: [{ ...XID, xid: 43 }] });
		expect(await second).toMatchObject({ events: [XID, { xid: 43 }], isListChanged: true });
		const third = keeper.sample(false);
		answer();
		expect(await third).toMatchObject({ events: [], isListChanged: false });
	});
});

describe('a driver that two ask for at once', () => {
	const UNTIL = (clock: VirtualClock) => clock.now() + UNTIL_MS;

	it('is free for both when the probe is gone, and the next probe is left alone', async () => {
		const { clock, keeper, probes, signals } = startRunning();
		const first = keeper.quiesce(UNTIL(clock));
		clock.advance(1000);
		const second = keeper.quiesce(UNTIL(clock));
		clock.advance(2000);
		probes[0]?.onExit('exit code 0');
		keeper.resume();
		probes[1]?.onAnswer({ id: 1, op: 'open', opened: OPENED });
		clock.advance(quiesceMs);
		expect([await first, await second]).toEqual([true, true]);
		expect([keeper.state, signals]).toEqual(['running', []]);
	});

	it('is told to hang once', async () => {
		const { clock, keeper, signals, findings } = startRunning();
		const first = keeper.quiesce(UNTIL(clock));
		clock.advance(1000);
		const second = keeper.quiesce(UNTIL(clock));
		clock.advance(quiesceMs - 1000);
		expect(await first).toBe(false);
		clock.advance(1000);
		expect(await second).toBe(false);
		expect([signals, findings.map(({ kind }) => kind)]).toEqual([['SIGTERM'], ['hung']]);
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
