import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DiskReading, SMART } from '../../agent/probe/disk-health.ts';
import { DiskMisses } from '../../agent/probe/disk-misses.ts';
import { type DiskReadingsOptions, readDisks } from '../../agent/probe/disk-readings.ts';
import { PidFile } from '../../agent/probe/pid-file.ts';
import { readEvidence } from '../../agent/probe/process-evidence.ts';
import { systemClock } from '../../kit/clock.ts';
import { isSameProcess, type ProcessIdentity } from '../../kit/process-identity.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { eventually } from '../eventually.ts';
import { FakeNvmeReader } from '../fakes/disks/nvme-reader.ts';
import * as documents from '../fakes/smartctl/documents.ts';
import { FakeSmartctl } from '../fakes/smartctl/smartctl.ts';
import { addDisk, DiskHost, type Looked } from './disk-host.ts';

/** Disks that don't answer, in real processes: of the reader, of smartctl's and of NVMe's stand-ins. */
let root: string;
let records: string;
let smartctl: FakeSmartctl;
let nvme: FakeNvmeReader;
let hosts: DiskHost[];
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'disk-hangs-'));
	records = join(root, 'disks');
	smartctl = new FakeSmartctl(join(root, 'smartctl'));
	nvme = new FakeNvmeReader(join(root, 'nvme'));
	hosts = [];
});
afterEach(async () => {
	for (const host of hosts) host[Symbol.dispose]();
	for (const device of ['sda', 'nvme0']) await end(device);
	rmSync(root, { recursive: true, force: true });
});

/** The process that is on record for a disk. */
function recorded(device: string): ProcessIdentity | undefined {
	const path = join(records, `${device}.json`);
	return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ProcessIdentity) : undefined;
}

async function end(device: string): Promise<void> {
	const identity = recorded(device);
	if (identity === undefined || !isSameProcess(identity)) return;
	process.kill(identity.pid, 'SIGKILL');
	await eventually('it is gone', () => !isSameProcess(identity));
}

function open(timeoutMs: number, kept: { bad?: string } = {}): DiskHost {
	const host = new DiskHost(root, { smartctl: smartctl.program, nvmeReader: nvme.command, timeoutMs }, kept);
	hosts.push(host);
	return host;
}

/** As the reader's process does, in this one. */
async function read(devices: readonly string[], options: Partial<DiskReadingsOptions> = {}) {
	const readings = new Map<string, DiskReading>();
	await readDisks(
		{
			...{ clock: systemClock, folder: records, timeoutMs: 60_000, smartctl: smartctl.program },
			...{ nvmeReader: nvme.command, devices, ...options },
		},
		(reading) => readings.set(reading.device, reading),
	);
	return readings;
}

/** It was late once: the next time it hangs, whatever its process does. */
function wasLate(device: string): void {
	mkdirSync(records, { recursive: true });
	new DiskMisses(records).add(device, systemClock.now());
}

/** Its deadline passes as soon as whoever asks does wait. */
async function miss(device: string, isWaiting: (pid: number) => boolean, options: Partial<DiskReadingsOptions> = {}) {
	const clock = new VirtualClock(systemClock.now());
	let isOver = false;
	const reading = read([device], { ...options, clock }).finally(() => {
		isOver = true;
	});
	const asks = await eventually('it waits', () => {
		const identity = recorded(device);
		return identity !== undefined && isSameProcess(identity) && isWaiting(identity.pid) && identity;
	});
	clock.advance(60_000);
	await eventually('it is given up', () => {
		if (!isSameProcess(asks) || options.kill !== undefined) clock.advance(100);
		return isOver;
	});
	return { startedMs: clock.now(), reading: (await reading).get(device) };
}

/** Programs that wait for nothing but their end, of which the kernel says so: not the shell before them. */
const waitsAs = (program: string, state: string) => (pid: number) =>
	readFileSync(`/proc/${pid}/comm`, 'latin1').trim() === program && readEvidence(pid).state === state;
const sleeps = waitsAs('sleep', 'S');

describe('a disk that is late', () => {
	it('hangs from the second time in a row on, since the first, also for the next agent', async () => {
		smartctl.hang('sda');
		const first = await miss('sda', sleeps);
		expect(first.reading).toEqual({
			...{ device: 'sda', health: { smart: SMART.failed }, isLate: true },
			why: 'no answer in 60 s: it is asked again soon',
		});
		const second = await miss('sda', sleeps);
		expect(second.reading?.health.smart).toBe(SMART.hung);
		const sinceMs = second.reading?.hang?.sinceMs;
		expect(sinceMs).toBeLessThanOrEqual(first.startedMs);
		const third = await miss('sda', sleeps);
		expect(third.reading?.hang?.sinceMs).toBe(sinceMs);
		smartctl.unhang('sda');
		smartctl.set('sda', documents.SATA_SSD);
		expect((await read(['sda'])).get('sda')?.health.smart).toBe(SMART.read);
		smartctl.hang('sda');
		expect((await miss('sda', sleeps)).reading?.isLate).toBe(true);
	});

	it('is late, too, where its process is in state D and ends, and hangs the second time, with that state', async () => {
		nvme.hang('nvme0');
		const inD = waitsAs('wait-in-d', 'D');
		expect((await miss('nvme0', inD)).reading).toMatchObject({ health: { smart: SMART.failed }, isLate: true });
		const { reading } = await miss('nvme0', inD);
		expect(reading).toMatchObject({ health: { smart: SMART.hung }, hang: { isLeft: false } });
		expect(reading?.hang?.evidence).toMatch(/^process \d+: state D/);
	});

	it('keeps its values with their age, makes a note, and is asked again after 5 minutes', async () => {
		addDisk(root, 'sda');
		smartctl.set('sda', documents.SATA_SSD);
		const host = open(8000);
		const isRead = ({ values }: Looked) => values.get('SERIAL-sda')?.['smart'] === SMART.read;
		await host.until('it is read', isRead);
		smartctl.hang('sda');
		host.clock.advance(3_600_000);
		const late = await host.until('it is late', (looked) => !isRead(looked));
		expect(late.values.get('SERIAL-sda')).toMatchObject({ smart: SMART.failed, wear: 0.09, 'smart.age': 3600 });
		expect(late.facts.map(({ code }) => code)).toEqual(['not_readable']);
		smartctl.unhang('sda');
		host.clock.advance(300_000);
		const again = await host.until('it answers', isRead);
		expect(again.values.get('SERIAL-sda')).toMatchObject({ wear: 0.09, 'smart.age': 0 });
		expect(again.facts.map(({ code, after }) => [code, after])).toEqual([['not_readable', SMART.read]]);
	});
});

describe('a controller that does not answer', () => {
	it('hides no other disk; it is named, with its process and since when, until it answers', async () => {
		for (const device of ['nvme0n1', 'nvme1n1', 'sda', 'sdb']) addDisk(root, device);
		nvme.hang('nvme0');
		smartctl.hang('sda');
		for (const device of ['nvme0', 'sda']) wasLate(device);
		nvme.set('nvme1', { wear: 0.5 });
		smartctl.set('sdb', documents.SAS_DISK);
		const kept = {};
		const host = open(8000, kept);
		const { values, facts } = await host.until(
			'all were asked',
			(looked) => looked.values.get('SERIAL-nvme1n1')?.['smart'] === 1,
		);
		expect(values.get('SERIAL-sdb')).toMatchObject({ smart: SMART.read, wear: 0.03 });
		expect(values.get('SERIAL-nvme1n1')).toMatchObject({ smart: SMART.read, wear: 0.5 });
		for (const hung of ['SERIAL-nvme0n1', 'SERIAL-sda']) expect(values.get(hung)).toMatchObject({ smart: SMART.hung });
		const of = (wanted: string) => facts.filter(({ id }) => id === wanted);
		expect(of('SERIAL-nvme0n1')).toMatchObject([{ code: 'hung', after: 1 }]);
		expect(of('SERIAL-nvme0n1')[0]?.raw).toMatch(/^nvme0 has not answered since 20\d\d-.*Z; process \d+: state D/);
		expect(of('SERIAL-sda')[0]?.raw).toMatch(/^sda has not answered since .*; process \d+: state S/);
		// Those that hang are asked again before the hour is over, and the others are not.
		nvme.set('nvme0', { wear: 0.25 });
		smartctl.unhang('sda');
		smartctl.set('sda', documents.SATA_SSD);
		host.clock.advance(300_000);
		const again = await host.until('they answer', (looked) =>
			['SERIAL-nvme0n1', 'SERIAL-sda'].every((id) => looked.values.get(id)?.['smart'] === SMART.read),
		);
		expect(again.values.get('SERIAL-nvme0n1')).toMatchObject({ wear: 0.25 });
		expect(again.facts.map(({ id, code, after }) => [id, code, after]).sort()).toEqual([
			['SERIAL-nvme0n1', 'hung', 0],
			['SERIAL-sda', 'hung', 0],
		]);
		expect(nvme.asked.filter((device) => device === 'nvme1')).toHaveLength(1);
	});

	it('goes on not to answer while nobody can ask it', async () => {
		addDisk(root, 'sda');
		smartctl.hang('sda');
		wasLate('sda');
		const host = open(8000);
		const smartOf = ({ values }: Looked, id: string) => values.get(id)?.['smart'];
		await host.until('it hangs', (looked) => smartOf(looked, 'SERIAL-sda') === SMART.hung);
		smartctl.uninstall();
		addDisk(root, 'sdb');
		host.clock.advance(300_000);
		const seen = new Set<number | undefined>();
		const facts: Looked['facts'][number][] = [];
		const isSo = (isWanted: (looked: Looked) => boolean) => (looked: Looked) => {
			seen.add(smartOf(looked, 'SERIAL-sda'));
			facts.push(...looked.facts.filter(({ id }) => id === 'SERIAL-sda'));
			return isWanted(looked);
		};
		await host.until(
			'that it is not installed was found out',
			isSo((looked) => smartOf(looked, 'SERIAL-sdb') === SMART.noProgram),
		);
		smartctl.install();
		smartctl.unhang('sda');
		smartctl.set('sda', documents.SATA_SSD);
		host.clock.advance(300_000);
		// The reading before is over by then, whatever it said.
		await host.until(
			'it answers',
			isSo((looked) => smartOf(looked, 'SERIAL-sda') === SMART.read),
		);
		expect([...seen]).toEqual([SMART.hung, SMART.read]);
		expect(facts.map(({ code, after }) => [code, after])).toEqual([['hung', 0]]);
	});

	it('is said to answer again by the next agent', async () => {
		addDisk(root, 'nvme0n1');
		nvme.hang('nvme0');
		wasLate('nvme0');
		const kept = {};
		const first = open(300, kept);
		await first.until('it hangs', (looked) => looked.facts.some(({ code }) => code === 'hung'));
		first[Symbol.dispose]();
		nvme.set('nvme0', { wear: 0.25 });
		const { facts } = await open(60_000, kept).until('it answers', (looked) => looked.facts.length > 0);
		expect(facts).toMatchObject([{ id: 'SERIAL-nvme0n1', code: 'hung', after: 0 }]);
	});

	it('goes on so while asking it fails, until it answers itself', async () => {
		addDisk(root, 'nvme0n1');
		nvme.hang('nvme0');
		wasLate('nvme0');
		const host = open(8000);
		const smartOf = ({ values }: Looked) => values.get('SERIAL-nvme0n1')?.['smart'];
		await host.until('it hangs', (looked) => smartOf(looked) === SMART.hung);
		nvme.fail('nvme0');
		host.clock.advance(300_000);
		const failed = await host.until('asking fails', (looked) => smartOf(looked) === SMART.failed);
		expect(failed.facts.filter(({ code }) => code === 'hung')).toEqual([]);
		nvme.set('nvme0', { wear: 0.25 });
		host.clock.advance(300_000);
		const answers = await host.until('it answers', (looked) => smartOf(looked) === SMART.read);
		expect(answers.facts.filter(({ code }) => code === 'hung')).toMatchObject([{ id: 'SERIAL-nvme0n1', after: 0 }]);
	});

	it('is one for its paths too, and hangs for as long as nobody can ask it', async () => {
		for (const device of ['nvme0c0n1', 'nvme0n1']) addDisk(root, device);
		nvme.hang('nvme0');
		wasLate('nvme0');
		const kept = {};
		const host = open(300, kept);
		const { facts } = await host.until('it hangs', (looked) => looked.facts.length > 0);
		expect(facts).toMatchObject([{ id: 'SERIAL-nvme0n1', code: 'hung', after: 1 }]);
		host.clock.advance(7_200_001);
		expect(host.reader.hung.map(({ device }) => device)).toEqual(['nvme0']);
		expect(host.reader.of('nvme0n1')).toEqual({ health: { smart: SMART.hung }, ageSeconds: undefined });
		host[Symbol.dispose]();
		nvme.fail('nvme0');
		const next = await open(60_000, kept).until(
			'asking fails',
			({ values }) => values.get('SERIAL-nvme0n1')?.['smart'] === SMART.failed,
		);
		expect(next.facts.filter(({ code }) => code === 'hung')).toEqual([]);
	});

	it('is one that keeps our own reader from opening it, too', async () => {
		const devices = join(root, 'dev');
		mkdirSync(devices);
		// Nobody writes into it: to open it waits for ever.
		execFileSync('mkfifo', [join(devices, 'nvme0')]);
		writeFileSync(join(devices, 'nvme1'), '');
		const main = join(import.meta.dirname, '../../agent/probe/nvme-main.ts');
		const nvmeReader = [process.execPath, main, devices];
		wasLate('nvme0');
		const { reading } = await miss('nvme0', opensFifo(), { nvmeReader });
		expect(reading).toMatchObject({
			health: { smart: SMART.hung },
			hang: { evidence: expect.stringContaining('process') },
		});
		const refused = await read(['nvme1'], { nvmeReader });
		expect(refused.get('nvme1')?.why).toBe('the SMART log could not be asked for: ENOTTY');
	});
});

/** A FIFO, by what the kernel says that a process waits in; a kernel that never says it is asked often enough. */
function opensFifo() {
	let unsaid = 0;
	return (pid: number) => {
		const { state, waitsIn } = readEvidence(pid);
		if (state !== 'S') return false;
		if (waitsIn === '' || waitsIn === '0') unsaid += 1;
		return /partner|fifo/.test(waitsIn) || unsaid >= 300;
	};
}

/** The kernel doesn't let it go: SIGKILL waits. */
const kill = () => undefined;

describe('a process that does not end', () => {
	it('is left alone, never has a second beside it, and its disk is read once it is gone', async () => {
		smartctl.hang('sda');
		smartctl.set('sdb', documents.SAS_DISK);
		const first = await miss('sda', sleeps, { kill });
		expect(first.reading).toMatchObject({
			why: 'no answer in 60 s, and its process does not end',
			hang: { isLeft: true, evidence: expect.stringMatching(/^process \d+: state S/) },
		});
		const { pid } = recorded('sda') as ProcessIdentity;
		const laterMs = systemClock.now();
		smartctl.unhang('sda');
		smartctl.set('sda', documents.SATA_SSD);
		// Another reader, as of the next agent, finds it by what was written down.
		const second = await read(['sda', 'sdb'], { kill });
		expect(second.get('sda')?.hang).toMatchObject({
			isLeft: true,
			evidence: expect.stringContaining(`process ${pid}:`),
		});
		expect(second.get('sda')?.hang?.sinceMs).toBeLessThan(laterMs);
		expect(second.get('sdb')?.health.smart).toBe(SMART.read);
		expect(smartctl.asked.filter((line) => line.endsWith('/dev/sda'))).toHaveLength(1);
		await end('sda');
		const third = await read(['sda'], { kill });
		expect(third.get('sda')?.health).toMatchObject({ smart: SMART.read, wear: 0.09 });
		expect(recorded('sda')).toBeUndefined();
	});

	it('counts, also when its disk left: past the bound no other disk is asked, and that is said', async () => {
		smartctl.hang('sda');
		nvme.hang('nvme0');
		smartctl.set('sdb', documents.SAS_DISK);
		await read(['sda', 'nvme0'], { timeoutMs: 300, endMs: 300, kill });
		const readings = await read(['sdb'], { leftMax: 2, kill });
		expect(readings.get('sdb')).toMatchObject({
			health: { smart: SMART.failed },
			why: 'not asked: 2 processes that asked other disks do not end',
		});
		expect(smartctl.asked.some((line) => line.endsWith('/dev/sdb'))).toBe(false);
		await end('sda');
		const later = await read(['sdb'], { leftMax: 2, kill });
		expect(later.get('sdb')?.health.smart).toBe(SMART.read);
	});

	it('is asked about again though its disk is no longer listed', async () => {
		smartctl.hang('sda');
		await read(['sda'], { timeoutMs: 300, endMs: 300, kill });
		smartctl.unhang('sda');
		// The agent's reader may kill, and this one does end.
		const host = open(60_000);
		const left = recorded('sda') as ProcessIdentity;
		await eventually('its record is gone', () => {
			host.look();
			return recorded('sda') === undefined;
		});
		expect(isSameProcess(left)).toBe(false);
	});
});

it('an agent that is killed while a disk is being read leaves its process to the next, which ends it first', async () => {
	addDisk(root, 'sda');
	smartctl.hang('sda');
	const first = open(60_000);
	const left = await eventually('it is asked', () => {
		first.look();
		return recorded('sda');
	});
	// SIGKILL, as the reader gets when its agent ends: nobody is told.
	first[Symbol.dispose]();
	expect(isSameProcess(left)).toBe(true);
	smartctl.unhang('sda');
	smartctl.set('sda', documents.SATA_SSD);
	await open(60_000).until('it is read', (looked) => looked.values.get('SERIAL-sda')?.['smart'] === SMART.read);
	expect(isSameProcess(left)).toBe(false);
});

it('a process that an agent left before its disk had its time is given that by the next, and is no hang', async () => {
	smartctl.set('sda', documents.SATA_SSD);
	const left = spawn('sleep', ['600']);
	mkdirSync(records, { recursive: true });
	new PidFile(join(records, 'sda.json')).write(left.pid ?? 0);
	const clock = new VirtualClock(systemClock.now());
	let isOver = false;
	const reading = read(['sda'], { clock, kill }).finally(() => {
		isOver = true;
	});
	await eventually('five seconds pass', () => {
		clock.advance(20);
		return clock.monotonic() > 5000;
	});
	expect(isOver).toBe(false);
	left.kill('SIGKILL');
	await eventually('it is read', () => {
		clock.advance(20);
		return isOver;
	});
	expect((await reading).get('sda')?.health.smart).toBe(SMART.read);
});
