import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readTrace } from '../../agent/probe/call-trace.ts';
import type { ProbeFinding } from '../../agent/probe/findings.ts';
import { PROBE_LIMITS_DEFAULT } from '../../agent/probe/findings.ts';
import { ProbeKeeper, type ProbeKeeperOptions } from '../../agent/probe/keeper.ts';
import { PidFile } from '../../agent/probe/pid-file.ts';
import { probeStarter } from '../../agent/probe/probe-process.ts';
import { readEvidence } from '../../agent/probe/process-evidence.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { eventually } from '../eventually.ts';
import { FakeDriver } from '../fakes/nvml/build.ts';
import { killQuietly } from './up-world.ts';

/** The real probe process on the fake driver; deadlines are short so that a hang is found in a moment. */
const LIMITS = {
	...PROBE_LIMITS_DEFAULT,
	fastDeadlineMs: 300,
	slowDeadlineMs: 300,
	hungAfterMs: 800,
	killGraceMs: 100,
	watchMs: 20,
	backoffBaseMs: 20,
	backoffMaxMs: 40,
};

/** Of tests in which nothing hangs. */
const PATIENT = {
	...LIMITS,
	fastDeadlineMs: 20_000,
	slowDeadlineMs: 20_000,
	hungAfterMs: 60_000,
	byeMs: 20_000,
	killGraceMs: 20_000,
};

let folder: string;
let keepers: ProbeKeeper[];
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'probe-'));
	keepers = [];
});
afterEach(async () => {
	for (const keeper of keepers) {
		const { pid } = keeper;
		await keeper.stop();
		if (pid !== undefined) killQuietly(pid);
	}
	rmSync(folder, { recursive: true, force: true });
});

function keep(library: string, options: Partial<ProbeKeeperOptions> = {}) {
	const findings: ProbeFinding[] = [];
	const tracePath = join(folder, 'call');
	const keeper = new ProbeKeeper({
		clock: systemClock,
		rng: systemRng,
		log: silentLogger,
		limits: LIMITS,
		start: probeStarter({ library, tracePath, compileCache: join(tmpdir(), 'gpuaas-test-compile-cache') }),
		pidFile: new PidFile(join(folder, 'pid')),
		tracePath,
		onFinding: (finding) => findings.push(finding),
		...options,
	});
	keepers.push(keeper);
	keeper.start();
	const has = (kind: ProbeFinding['kind']) => findings.some((finding) => finding.kind === kind);
	return { keeper, findings, has };
}

const running = (keeper: ProbeKeeper) => eventually('the probe runs', () => keeper.state === 'running');

/** The hang in that call: on a busy machine one before it may have taken as long. */
async function hungIn(findings: readonly ProbeFinding[], call: string, ask: () => unknown = () => {}) {
	return await eventually(`it is hung in ${call}`, async () => {
		await ask();
		return findings.find((finding) => finding.kind === 'hung' && finding.call.startsWith(call));
	});
}

describe('a driver that answers', () => {
	it('is opened, listed and sampled, and says that it is simulated', async () => {
		const { library } = new FakeDriver(folder, 'model h200\ngpus 2');
		const { keeper, findings } = keep(library, { limits: PATIENT });
		await running(keeper);
		expect(keeper.driver).toMatchObject({ driver: '570.86.15', isSimulated: true, missing: [] });
		expect((await keeper.inventory())?.gpus.map(({ name }) => name)).toEqual(['NVIDIA H200', 'NVIDIA H200']);
		const sample = await keeper.sample(true);
		expect(sample?.gpus).toHaveLength(2);
		expect(sample?.slow?.nvlinks).toHaveLength(36);
		expect(findings).toEqual([]);
	});

	it('is let go in order when the agent stops, and nothing is left', async () => {
		const { library } = new FakeDriver(folder);
		const { keeper } = keep(library, { limits: PATIENT });
		await running(keeper);
		const pid = keeper.pid ?? 0;
		await keeper.stop();
		await eventually('it is gone', () => readEvidence(pid).state === '');
		// The last that it did.
		expect(readTrace(join(folder, 'call'))).toMatch(/^nvmlShutdown/);
		expect(new PidFile(join(folder, 'pid')).living()).toBeUndefined();
	});

	it('is free while quiesced, and taken again on request or when the time is over', async () => {
		const { library } = new FakeDriver(folder);
		const { keeper } = keep(library, { limits: PATIENT });
		await running(keeper);
		const pid = keeper.pid ?? 0;
		expect(await keeper.quiesce(systemClock.now() + 60_000)).toBe(true);
		await eventually('it is gone', () => readEvidence(pid).state === '');
		expect(await keeper.sample(false)).toBeUndefined();
		keeper.resume();
		await running(keeper);
		await keeper.quiesce(systemClock.now() + 50);
		await running(keeper);
	});

	it('starts again with another process when the probe is killed', async () => {
		const { library } = new FakeDriver(folder);
		const { keeper, has } = keep(library, { limits: PATIENT });
		await running(keeper);
		const pid = keeper.pid ?? 0;
		process.kill(pid, 'SIGKILL');
		await eventually('another runs', () => keeper.state === 'running' && keeper.pid !== pid);
		expect(keeper.restarts).toBe(1);
		await keeper.sample(false);
		expect(has('recovered')).toBe(true);
	});
});

describe('a driver that does not', () => {
	it('is slow after one deadline, and well again when it answered', async () => {
		const driver = new FakeDriver(folder, 'gpus 1');
		const limits = { ...PATIENT, fastDeadlineMs: 300 };
		const { keeper, findings } = keep(driver.library, { limits });
		await running(keeper);
		driver.set('gpus 1\ndelay nvmlDeviceGetPowerUsage 1500');
		expect(await keeper.sample(false)).toBeUndefined();
		expect(keeper.state).toBe('slow');
		expect(findings).toMatchObject([{ kind: 'slow', call: 'nvmlDeviceGetPowerUsage (GPU 0)' }]);
		driver.set('gpus 1');
		await eventually('it answers', async () => (await keeper.sample(false)) !== undefined);
		expect(keeper.state).toBe('running');
		expect(findings.at(-1)?.kind).toBe('recovered');
	});

	it('that takes its time to open is open all the same', async () => {
		const driver = new FakeDriver(folder, 'gpus 1\ndelay nvmlInit_v2 200');
		const { keeper, findings } = keep(driver.library, {
			limits: { ...LIMITS, slowDeadlineMs: 50, hungAfterMs: 60_000 },
		});
		await running(keeper);
		expect(findings).toMatchObject([{ kind: 'slow' }]);
	});

	it('is hung when it never does: named with its call, ended, started again', async () => {
		const driver = new FakeDriver(folder, 'gpus 1');
		const { keeper, findings, has } = keep(driver.library);
		await running(keeper);
		const pid = keeper.pid ?? 0;
		driver.set('gpus 1\nhang nvmlDeviceGetFieldValues');
		expect(await keeper.sample(false)).toBeUndefined();
		const hung = await hungIn(findings, 'nvmlDeviceGetFieldValues');
		expect(hung).toMatchObject({ call: 'nvmlDeviceGetFieldValues (GPU 0)', evidence: { state: 'S' } });
		driver.set('gpus 1');
		await eventually('another runs', () => keeper.state === 'running' && keeper.pid !== pid);
		// On a busy machine one may be late.
		await eventually('it answers', async () => (await keeper.sample(false)) !== undefined);
		expect(has('recovered')).toBe(true);
	});

	it.each([
		'nvmlInit_v2',
		'nvmlDeviceGetCount_v2',
		'nvmlDeviceGetHandleByIndex_v2',
		'nvmlGpmSampleGet',
		'nvmlDeviceGetGpuFabricInfoV',
		'nvmlEventSetWait_v2',
	])('is named by its call: %s', async (call) => {
		const driver = new FakeDriver(folder, `gpus 1\nhang ${call}`);
		const { keeper, findings } = keep(driver.library);
		await hungIn(findings, call, () => keeper.sample(true));
	});

	it('shows the D state of a wedged driver', async () => {
		const driver = new FakeDriver(folder, 'gpus 1');
		const { keeper, findings } = keep(driver.library);
		await running(keeper);
		driver.set('gpus 1\ndstate nvmlDeviceGetPowerUsage');
		await keeper.sample(false);
		expect(await hungIn(findings, 'nvmlDeviceGetPowerUsage')).toMatchObject({
			call: 'nvmlDeviceGetPowerUsage (GPU 0)',
			evidence: { state: 'D' },
		});
	});

	it('never has a second probe beside the first, also not of an agent before', async () => {
		const driver = new FakeDriver(folder, 'gpus 1');
		// Nothing ends it, as in D: signals go nowhere.
		const real = probeStarter({ library: driver.library, tracePath: join(folder, 'call'), compileCache: folder });
		let starts = 0;
		const start: typeof real = (listeners) => {
			starts += 1;
			const probe = real(listeners);
			return { ...probe, pid: probe.pid, kill: () => undefined };
		};
		const { keeper, has } = keep(driver.library, { start });
		await running(keeper);
		const pid = keeper.pid ?? 0;
		driver.set('gpus 1\nhang nvmlDeviceGetFieldValues');
		await keeper.sample(false);
		await eventually('it is hung', () => has('hung'));
		await keeper.stop();
		const next = keep(driver.library, { start, killForeign: () => undefined });
		await eventually('the next agent finds it', () => next.has('hung'));
		expect(next.findings).toMatchObject([{ kind: 'hung', isInherited: true, evidence: { state: 'S' } }]);
		expect([starts, next.keeper.state]).toEqual([1, 'hung']);
		driver.set('gpus 1');
		process.kill(pid, 'SIGKILL');
		await running(next.keeper);
		expect(starts).toBe(2);
	});

	it('is left to end by itself when closing it hangs as the agent stops', async () => {
		const driver = new FakeDriver(folder, 'gpus 1\nhang nvmlShutdown');
		const { keeper } = keep(driver.library);
		await running(keeper);
		const pid = keeper.pid ?? 0;
		await keeper.stop();
		// Asked to end, never killed: a holder of the driver that is killed can take the GPU with it.
		await eventually('SIGTERM ended it', () => readEvidence(pid).state === '');
	});

	it('stops in well under a second while the driver hangs', async () => {
		const driver = new FakeDriver(folder, 'gpus 1');
		const { keeper } = keep(driver.library, { limits: { ...LIMITS, hungAfterMs: 60_000 } });
		await running(keeper);
		driver.set('gpus 1\nhang nvmlDeviceGetFieldValues');
		const sampled = keeper.sample(false);
		await keeper.stop();
		expect(keeper.state).toBe('stopped');
		expect(await sampled).toBeUndefined();
	});
});

describe('a driver that can not be used', () => {
	it('is said once, with what NVML says, and tried again', async () => {
		const driver = new FakeDriver(folder, 'init 9');
		const { keeper, findings } = keep(driver.library, { limits: PATIENT });
		await eventually('it is tried again', () => keeper.restarts >= 2);
		expect(findings).toEqual([{ kind: 'unavailable', code: 'nvml:9', message: 'the NVIDIA driver is not loaded' }]);
		driver.set('');
		await running(keeper);
	});

	it('is loaded anew when it was changed under the probe', async () => {
		const driver = new FakeDriver(folder, 'gpus 1');
		const { keeper, has, findings } = keep(driver.library, { limits: PATIENT });
		await running(keeper);
		const pid = keeper.pid ?? 0;
		driver.set('gpus 1\nfail * 18');
		expect(await keeper.sample(false)).toBeUndefined();
		await eventually('it is unavailable', () => has('unavailable'));
		expect(findings[0]).toMatchObject({ code: 'nvml:18' });
		driver.set('gpus 1');
		await eventually('another runs', () => keeper.state === 'running' && keeper.pid !== pid);
	});

	it('is a library that is not there', async () => {
		const { keeper, has, findings } = keep(join(folder, 'libnone.so'), { limits: PATIENT });
		await eventually('it is unavailable', () => has('unavailable'));
		expect(findings[0]).toMatchObject({ code: 'library' });
		expect(keeper.state).toBe('unavailable');
	});
});
