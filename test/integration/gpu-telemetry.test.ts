import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryJournal } from '../../agent/journal/memory.ts';
import { Telemetry, type TelemetryOptions } from '../../agent/telemetry/telemetry.ts';
import { DEFAULT_POLICY } from '../../health/default-policy.ts';
import { NodeHealth } from '../../health/engine.ts';
import { observationOf } from '../../health/fact-kinds.ts';
import { parsePolicy } from '../../health/parse-policy.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import {
	HealthFactKind,
	HealthSubjectKind,
	HistoryQuerySchema,
	InventoryChangeKind,
	ProbeState,
	type TelemetryFrame,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { eventually } from '../eventually.ts';
import { FakeDriver } from '../fakes/nvml/build.ts';

/** The agent's telemetry as a whole, with the real probe on the fake driver, a frame a second, and a journal. */
let folder: string;
let driver: FakeDriver;
let open: Telemetry[];
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpu-telemetry-'));
	driver = new FakeDriver(folder, 'gpus 2');
	writeFileSync(join(folder, 'kmsg'), '');
	open = [];
});
afterEach(async () => {
	for (const telemetry of open) await telemetry[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

/** Of tests in which nothing hangs: on a busy machine a call may take as long as one that does. */
const PATIENT = {
	fastDeadlineMs: 20_000,
	slowDeadlineMs: 20_000,
	hungAfterMs: 60_000,
	killGraceMs: 20_000,
	backoffBaseMs: 20,
	backoffMaxMs: 40,
};
const HASTY = { ...PATIENT, fastDeadlineMs: 300, slowDeadlineMs: 300, hungAfterMs: 900, killGraceMs: 100 };

function start(journal = new MemoryJournal(), overrides: Partial<TelemetryOptions> = {}, limits = PATIENT) {
	const frames: TelemetryFrame[] = [];
	const telemetry = new Telemetry({
		clock: systemClock,
		rng: systemRng,
		log: silentLogger,
		nodeId: '0190d7a0-0000-7000-8000-000000000000',
		bootId: 'boot-1',
		dataFolder: folder,
		plan: { periodMs: 1000, fastPeriodMs: 0, fastUntilMs: 0 },
		gpu: {
			mode: 'on',
			library: driver.library,
			folder: join(folder, 'probe'),
			limits,
		},
		disks: { folder: join(folder, 'disks') },
		kmsgPath: join(folder, 'kmsg'),
		runningTasks: () => 0,
		readMachine: async () => undefined,
		journal,
		send: (frame) => frames.push(frame) > 0,
		...overrides,
	});
	open.push(telemetry);
	return { telemetry, frames, journal };
}

const healthOf = (journal: MemoryJournal) =>
	journal.listFacts(0n, 1000).flatMap(({ fact }) => (fact.case === 'health' ? [fact.value] : []));
const inventoriesOf = (journal: MemoryJournal) =>
	journal.listFacts(0n, 1000).flatMap(({ fact }) => (fact.case === 'inventory' ? [fact.value] : []));
/** By the policy that ships, of the GPUs that facts are about. */
function statesOf(journal: MemoryJournal): ReadonlyMap<string, string> {
	const health = new NodeHealth(parsePolicy(DEFAULT_POLICY));
	const gpus = new Set<string>();
	for (const fact of healthOf(journal)) {
		health.observe(observationOf(fact, { atMs: 0, custody: 'platform', isInjected: false }));
		if (fact.subject?.kind === HealthSubjectKind.GPU) gpus.add(fact.subject.id);
	}
	const parts = [...gpus].map((id) => ({ subject: { kind: 'gpu' as const, id, index: 0 }, values: {} }));
	health.observe({ kind: 'sample', atMs: 0, custody: 'platform', simulated: true, bootId: 'boot-1', parts });
	const verdicts = health.verdicts(0).filter(({ subject }) => subject.kind === 'gpu');
	return new Map(verdicts.map(({ subject, state }) => [subject.id, state]));
}
const withGpus = (frames: readonly TelemetryFrame[]) => frames.filter(({ gpus }) => gpus.length > 0);

test('frames have fast parts each time and slow parts now and then, and the ring answers for them', async () => {
	const { telemetry, frames, journal } = start();
	await eventually('some came', () => withGpus(frames).length >= 4 && inventoriesOf(journal).length === 1);
	const slow = frames.filter(({ hasSlow, gpusSlow }) => hasSlow && gpusSlow.length > 0);
	expect(slow[0]?.nvlinks).toHaveLength(36);
	expect(slow.length).toBeLessThan(withGpus(frames).length);
	const last = frames.at(-1);
	expect(last).toMatchObject({ schema: 2, simulated: true, probe: ProbeState.RUNNING });
	expect(last?.inventory).toBe(inventoriesOf(journal)[0]?.inventory?.digest.slice(0, 16));
	const query = create(HistoryQuerySchema, { queryId: 'q', part: 'gpu', keys: ['temperature.gpu', 'energy'] });
	const answer = telemetry.answer(query);
	expect(answer.series.map(({ id, key }) => [id.slice(-1), key])).toEqual([
		['0', 'temperature.gpu'],
		['0', 'energy'],
		['1', 'temperature.gpu'],
		['1', 'energy'],
	]);
	expect(answer.series[2]?.values.every((value) => value === 41)).toBe(true);
	expect(answer.simulated).toBe(true);
	expect(telemetry.answer(create(HistoryQuerySchema, { part: 'gpu', keys: ['x'] })).refusal).toBe('gpu has no "x"');
});

test('a hang becomes facts, leaves the GPUs out, keeps the host in, and ends', async () => {
	const { frames, journal } = start(undefined, undefined, HASTY);
	await eventually('it runs', () => withGpus(frames).length >= 1);
	driver.set('gpus 2\nhang nvmlDeviceGetUtilizationRates');
	// On a busy machine another call may have been late before.
	const hung = await eventually('it is hung', () =>
		healthOf(journal).find(
			({ kind, raw }) => kind === HealthFactKind.PROBE_HUNG && raw.includes('nvmlDeviceGetUtilizationRates'),
		),
	);
	expect(hung).toMatchObject({ code: 'state:S', simulated: true });
	expect(hung.raw).toContain('nvmlDeviceGetUtilizationRates (GPU 0) has not returned after');
	const without = await eventually('a frame without', () => frames.find(({ gpus }, at) => at > 1 && gpus.length === 0));
	expect(without.values.length).toBeGreaterThan(35);
	expect(without.probe).not.toBe(ProbeState.RUNNING);
	driver.set('gpus 2');
	await eventually('it recovered', () => healthOf(journal).some(({ kind }) => kind === HealthFactKind.PROBE_RECOVERED));
});

test('a GPU that is lost, and one that is gone, are facts; the inventory says what changed', async () => {
	const { frames, journal } = start();
	await eventually('it runs', () => withGpus(frames).length >= 1 && inventoriesOf(journal).length === 1);
	driver.set('gpus 2\nlost 0');
	await eventually('it is lost', () => healthOf(journal).some(({ code }) => code === 'nvml:15'));
	driver.set('gpus 2\ngone 1');
	const changed = await eventually('the inventory changed', () => inventoriesOf(journal)[1]);
	expect(changed.changes).toMatchObject([
		{ part: 'gpu', id: 'GPU-fa4e0000-0000-4000-8000-000000000001', kind: InventoryChangeKind.REMOVED },
	]);
	expect(changed.previousDigest).toBe(inventoriesOf(journal)[0]?.inventory?.digest);
	expect(healthOf(journal).find(({ code }) => code === 'missing')).toMatchObject({
		kind: HealthFactKind.GPU_LOST,
		subject: { id: 'GPU-fa4e0000-0000-4000-8000-000000000001' },
	});
});

test('links that are missing, faults of the fabric: facts that the policy makes verdicts of', async () => {
	driver.set('model h100\ngpus 2\nnvlinks_down 0 2\nfabric_mask 1 0x1192');
	const { journal } = start();
	const counted = await eventually('they were counted', () => {
		const found = healthOf(journal).filter(({ kind }) => kind === HealthFactKind.NVLINK_COUNT);
		return found.length === 2 && found;
	});
	expect(counted[0]).toMatchObject({
		code: 'NVIDIA H100 80GB HBM3',
		before: 16,
		after: 16,
		raw: '16 of the 18 NVLinks of NVIDIA H100 80GB HBM3 are up; down: 0, 1',
		subject: { kind: HealthSubjectKind.GPU, id: 'GPU-fa4e0000-0000-4000-8000-000000000000' },
	});
	const fabric = healthOf(journal).filter(({ kind }) => kind === HealthFactKind.FABRIC);
	expect(fabric.map(({ code, after, subject }) => [code, after, subject?.id.slice(-1)])).toEqual([
		['route_unhealthy', 1, '1'],
	]);
	const [short, sick] = ['0', '1'].map((end) => `GPU-fa4e0000-0000-4000-8000-00000000000${end}`);
	expect(statesOf(journal)).toEqual(
		new Map([
			[short, 'UNHEALTHY'],
			[sick, 'UNHEALTHY'],
		]),
	);
});

test('a card without bridges has links that are down, and is well', async () => {
	driver.set('model h100pcie\ngpus 2\nnvlinks_down 0 12\nnvlinks_down 1 12');
	const { journal } = start();
	await eventually('they were counted', () => healthOf(journal).length === 2);
	expect(healthOf(journal)).toMatchObject([0, 0].map((after) => ({ kind: HealthFactKind.NVLINK_COUNT, after })));
	expect([...statesOf(journal).values()]).toEqual(['HEALTHY', 'HEALTHY']);
});

test('processes are reported where the owner of the host wants it, each with the task or terminal that it is of', async () => {
	// Its own leader: the session of the tests may have one that is not to be seen from here.
	using worker = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' });
	driver.set(`gpus 1\nprocess 0 ${worker.pid} 1024 50\nprocess 0 1 16 -1`);
	const off = start();
	await eventually('a slow frame', () => off.frames.some(({ hasSlow, gpusSlow }) => hasSlow && gpusSlow.length > 0));
	expect(off.frames.flatMap(({ gpuProcesses }) => gpuProcesses)).toEqual([]);
	await off.telemetry[Symbol.asyncDispose]();
	const on = start(new MemoryJournal(), {
		gpu: { mode: 'on', library: driver.library, folder: join(folder, 'probe'), processes: true },
		processOwners: () => [{ kind: 'terminal', id: 'its-id', box: 'its-id', base: undefined, leaderPid: worker.pid }],
	});
	const frame = await eventually('they came', () => on.frames.find(({ gpuProcesses }) => gpuProcesses.length > 0));
	expect(frame.gpuProcesses).toMatchObject([
		{ pid: worker.pid, memoryBytes: 1024 ** 3, smUtilisation: 0.5, taskId: '', terminalId: 'its-id' },
		{ pid: 1, memoryBytes: 16 * 1024 ** 2, taskId: '', terminalId: '' },
	]);
	expect([frame.hasSlow, frame.gpuProcesses[1]?.smUtilisation]).toEqual([true, undefined]);
});

test('a host that lists no GPU at all misses each that it had: under a driver, and where the hardware is gone', async () => {
	const lost = (journal: MemoryJournal) =>
		healthOf(journal)
			.filter(({ kind, code }) => kind === HealthFactKind.GPU_LOST && code === 'missing')
			.map(({ subject, simulated }) => `${subject?.id.slice(-1)} ${simulated}`);
	const { telemetry, frames, journal } = start();
	await eventually('it runs', () => withGpus(frames).length >= 1 && inventoriesOf(journal).length === 1);
	await telemetry[Symbol.asyncDispose]();
	const copy = () => {
		const other = new MemoryJournal();
		other.putSetting('telemetry.inventory', journal.getSetting('telemetry.inventory') ?? '');
		return other;
	};
	driver.set('gpus 2\ngone 0\ngone 1');
	const listed = start(copy());
	await eventually('both are missed', () => lost(listed.journal).length === 2);
	await listed.telemetry[Symbol.asyncDispose]();
	// No NVIDIA hardware here, so no probe is started.
	const gpu = { mode: 'auto', library: driver.library, folder: join(folder, 'probe') } as const;
	const bare = start(copy(), { gpu });
	expect(bare.telemetry.status.probe).toBe('no-hardware');
	expect(lost(bare.journal)).toEqual(['0 true', '1 true']);
	const off = start(copy(), { gpu: { ...gpu, mode: 'off' } });
	expect(lost(off.journal)).toEqual([]);
});

test('what one agent reported the next does not repeat; a driver that is silent then removes no GPU', async () => {
	const { telemetry, frames, journal } = start();
	await eventually('it was reported', () => inventoriesOf(journal).length === 1 && withGpus(frames).length >= 1);
	await telemetry[Symbol.asyncDispose]();
	driver.set('init 9');
	const next = start(journal);
	await eventually(
		'the next one looked',
		() => healthOf(journal).some(({ code }) => code === 'nvml:9') && next.frames.length >= 2,
	);
	expect(inventoriesOf(journal)).toHaveLength(1);
	expect(next.frames.at(-1)?.inventory).toBe(inventoriesOf(journal)[0]?.inventory?.digest.slice(0, 16));
	expect(next.telemetry.status).toMatchObject({ probe: 'unavailable', message: 'the NVIDIA driver is not loaded' });
});

test('without hardware there is no probe, and the host is measured all the same', async () => {
	const { telemetry, frames, journal } = start(new MemoryJournal(), {
		gpu: { mode: 'auto', library: driver.library, folder: join(folder, 'probe') },
	});
	await eventually('a frame came', () => frames.length >= 1 && inventoriesOf(journal).length === 1);
	expect(frames[0]).toMatchObject({ probe: ProbeState.NO_HARDWARE, gpus: [], simulated: false });
	expect(inventoriesOf(journal)[0]?.inventory).toMatchObject({ gpus: [], driver: { source: 'none' } });
	expect(telemetry.status.probe).toBe('no-hardware');
});

test('where koffi is missing the inventory comes from nvidia-smi, asked once, and values there are none', async () => {
	// The probe as it is, in a place from which no package is found.
	const root = join(import.meta.dirname, '..', '..');
	const bare = join(folder, 'bare');
	const isProgram = (path: string) => !/\.test\.ts$/.test(path);
	for (const part of ['agent/probe', 'agent/platform', 'kit', 'proto/telemetry-schema'])
		cpSync(join(root, part), join(bare, part), { recursive: true, filter: isProgram });
	writeFileSync(join(bare, 'package.json'), '{"type":"module"}');
	const nvidiaSmi = join(folder, 'nvidia-smi');
	const asked = join(folder, 'asked');
	const uuid = 'GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
	const xml = `<driver_version>570.1</driver_version><gpu id="00000000:1B:00.0"><uuid>${uuid}</uuid></gpu>`;
	writeFileSync(nvidiaSmi, `#!/bin/sh\necho "$@" >> ${asked}\necho '${xml}'\n`, { mode: 0o755 });
	const programs = { probe: join(bare, 'agent/probe/main.ts'), nvidiaSmi };
	// Soon, if it were started again.
	const limits = { backoffBaseMs: 10, backoffMaxMs: 20 };
	const gpu = { mode: 'on', library: driver.library, folder: join(folder, 'probe'), programs, limits } as const;
	const { telemetry, frames, journal } = start(new MemoryJournal(), { gpu });
	const [report] = await eventually('it was reported', () => {
		const found = inventoriesOf(journal);
		return found.length > 0 && found;
	});
	expect(report?.inventory?.gpus.map((each) => each.uuid)).toEqual([uuid]);
	expect(report?.inventory?.driver).toMatchObject({ source: 'nvidia-smi', nvidiaDriver: '570.1' });
	expect(healthOf(journal)).toEqual([
		expect.objectContaining({ kind: HealthFactKind.PROBE_UNAVAILABLE, code: 'koffi' }),
	]);
	const seen = frames.length;
	await eventually('it goes on', () => frames.length >= seen + 3);
	expect(withGpus(frames)).toEqual([]);
	expect(frames.at(-1)?.probe).toBe(ProbeState.UNAVAILABLE);
	expect(telemetry.status).toMatchObject({ probe: 'unavailable', restarts: 0 });
	expect(readFileSync(asked, 'utf8')).toBe('-q -x\n');
});
