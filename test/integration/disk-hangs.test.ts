import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DiskReading, SMART } from '../../agent/probe/disk-health.ts';
import { type DiskReadingsOptions, readDisks } from '../../agent/probe/disk-readings.ts';
import { systemClock } from '../../kit/clock.ts';
import { isSameProcess, type ProcessIdentity } from '../../kit/process-identity.ts';
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

describe('a controller that does not answer', () => {
	it('hides no other disk; it is named, with its process and since when, until it answers', async () => {
		for (const device of ['nvme0n1', 'nvme1n1', 'sda', 'sdb']) addDisk(root, device);
		nvme.hang('nvme0');
		smartctl.hang('sda');
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
		const kept = {};
		const first = open(300, kept);
		await first.until('it hangs', (looked) => looked.facts.some(({ code }) => code === 'hung'));
		first[Symbol.dispose]();
		nvme.set('nvme0', { wear: 0.25 });
		const { facts } = await open(60_000, kept).until('it answers', (looked) => looked.facts.length > 0);
		expect(facts).toMatchObject([{ id: 'SERIAL-nvme0n1', code: 'hung', after: 0 }]);
	});

	it('is one that keeps our own reader from opening it, too', async () => {
		const devices = join(root, 'dev');
		mkdirSync(devices);
		// Nobody writes into it: to open it waits for ever.
		execFileSync('mkfifo', [join(devices, 'nvme0')]);
		writeFileSync(join(devices, 'nvme1'), '');
		const main = join(import.meta.dirname, '../../agent/probe/nvme-main.ts');
		const nvmeReader = [process.execPath, main, devices];
		const hung = await read(['nvme0'], { nvmeReader, timeoutMs: 500 });
		expect(hung.get('nvme0')).toMatchObject({
			health: { smart: SMART.hung },
			hang: { evidence: expect.stringContaining('process') },
		});
		const refused = await read(['nvme1'], { nvmeReader });
		expect(refused.get('nvme1')?.why).toBe('the controller refused its SMART log');
	});
});

/** The kernel doesn't let it go: SIGKILL waits. */
const kill = () => undefined;

describe('a process that does not end', () => {
	it('is left alone, never has a second beside it, and its disk is read once it is gone', async () => {
		smartctl.hang('sda');
		smartctl.set('sdb', documents.SAS_DISK);
		const first = await read(['sda'], { timeoutMs: 300, kill });
		expect(first.get('sda')).toMatchObject({
			why: 'no answer in 0.3 s, and its process does not end',
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
		await read(['sda', 'nvme0'], { timeoutMs: 300, kill });
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
		await read(['sda'], { timeoutMs: 300, kill });
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
