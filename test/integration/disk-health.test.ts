import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SMART } from '../../agent/probe/disk-health.ts';
import { parseSmartctl } from '../../agent/probe/smartctl-document.ts';
import { createLogger } from '../../kit/log.ts';
import { eventually } from '../eventually.ts';
import * as documents from '../fakes/smartctl/documents.ts';
import { FakeSmartctl } from '../fakes/smartctl/smartctl.ts';
import { addDisk, DiskHost } from './disk-host.ts';

const parsed = (document: object) => parseSmartctl(JSON.stringify(document));

describe('a document of smartctl', () => {
	it('of a SATA disk has what the disk says, and counts as its database reads them', () => {
		expect(parsed(documents.SATA_DISK)).toEqual({
			health: {
				...{ smart: SMART.read, passed: 1, reallocated: 72, pending: 8, uncorrectable: 2 },
				...{ powerOnSeconds: 31_000 * 3600, errorsLogged: 3, temperature: 34 },
			},
			why: '',
		});
		expect(parsed(documents.SATA_FAILING).health.passed).toBe(0);
	});

	it('of an SSD has its wear where an attribute is called that, whatever its number', () => {
		const { health } = parsed(documents.SATA_SSD);
		expect(health).toMatchObject({ wear: 0.09, reallocated: 0 });
		// Attribute 198 of this one counts something else.
		expect(health).not.toHaveProperty('uncorrectable');
		expect(parsed(documents.SATA_SSD_NEWER).health.wear).toBe(0.12);
	});

	it('of a SAS disk has its defects and what could not be read', () => {
		expect(parsed(documents.SAS_DISK).health).toEqual({
			...{ smart: SMART.read, passed: 1, wear: 0.03, mediaErrors: 3, reallocated: 5, pending: 1 },
			...{ powerOnSeconds: 3862 * 3600, temperature: 35 },
		});
	});

	it.each([
		['a disk that sleeps', documents.ASLEEP, SMART.asleep, 'the disk sleeps, and is not woken'],
		['a USB bridge', documents.USB_BRIDGE, SMART.none, '/dev/sdc: Unknown USB bridge [0x048d:0x1234 (0x200)]'],
		[
			'one that may not be opened',
			documents.NOT_PERMITTED,
			SMART.failed,
			'Smartctl open device: /dev/sda failed: Permission denied',
		],
		['a volume of a RAID controller', documents.RAID_VOLUME, SMART.none, 'the device has no SMART'],
		['an empty one', {}, SMART.none, 'the device, or what is before it, passes no SMART on'],
	])('of %s says why there is nothing', (_what, document, smart, why) => {
		expect(parsed(document)).toMatchObject({ health: { smart }, why });
	});

	it('without SMART is the word of the device where it was asked, not that of smartctl alone', () => {
		expect(parsed(documents.RAID_VOLUME).isItsWord).toBe(true);
		for (const document of [documents.USB_BRIDGE, documents.NOT_PERMITTED, {}])
			expect(parsed(document)).not.toHaveProperty('isItsWord');
	});

	it('that is none is a failure, and nonsense in its fields is left out', () => {
		for (const text of ['', 'smartctl 6.6 2016-05-31\n', '[]', '7', 'null'])
			expect(parseSmartctl(text).health).toEqual({ smart: SMART.failed });
		const odd = {
			smart_status: { passed: 'yes' },
			power_on_time: [],
			temperature: { current: 'warm' },
			ata_smart_attributes: { table: [null, 7, { id: 5, name: 'Reallocated_Sector_Ct', raw: { value: -1 } }] },
			endurance_used: { current_percent: 4 },
		};
		expect(parsed(odd).health).toEqual({ smart: SMART.read, wear: 0.04 });
	});
});

/** Readers that this process has started and that have not ended. */
function readers(): readonly string[] {
	const threads = readdirSync('/proc/self/task').map((thread) => `/proc/self/task/${thread}/children`);
	const children = threads.flatMap((path) => readFileSync(path, 'utf8').split(' ').filter(Boolean));
	return children.filter((pid) => {
		try {
			// Empty from its exit until it is reaped: it has not ended for who started it.
			return /^$|disk-main/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
		} catch {
			return false;
		}
	});
}

describe('a host', () => {
	let root: string;
	let fake: FakeSmartctl;
	let hosts: DiskHost[];
	beforeEach(() => {
		root = mkdtempSync(join(tmpdir(), 'disk-health-'));
		fake = new FakeSmartctl(join(root, 'fake'));
		hosts = [];
		for (const device of ['sda', 'sdb']) addDisk(root, device);
	});
	afterEach(() => {
		for (const host of hosts) host[Symbol.dispose]();
		rmSync(root, { recursive: true, force: true });
	});

	function open({ program = fake.program, timeoutMs = 60_000 } = {}) {
		const host = new DiskHost(root, { smartctl: program, timeoutMs });
		hosts.push(host);
		return host;
	}

	it('has the values of its disks, asks only to read and never wakes one, and tells what is wrong', async () => {
		fake.set('sda', documents.SATA_FAILING);
		fake.set('sdb', documents.SAS_DISK);
		const { values, facts } = await open().until(
			'both are read',
			(looked) => looked.values.get('SERIAL-sda')?.['smart'] === 1 && looked.values.get('SERIAL-sdb')?.['smart'] === 1,
		);
		expect(values.get('SERIAL-sda')).toMatchObject({ passed: 0, reallocated: 72, pending: 8 });
		expect(values.get('SERIAL-sdb')).toMatchObject({ wear: 0.03, media_errors: 3, power_on: 3862 * 3600 });
		expect(fake.asked).toEqual(['a', 'b'].map((letter) => `--json=c --all --nocheck=standby /dev/sd${letter}`));
		expect(facts.filter(({ id }) => id === 'SERIAL-sda').map(({ code, after }) => [code, after])).toEqual([
			['failing', 0],
			['pending', 8],
			['reallocated', 72],
			['uncorrectable', 2],
		]);
	});

	it('keeps what a disk said before it fell asleep, but for its temperature, and starts nothing before an hour', async () => {
		fake.set('sda', documents.SATA_SSD);
		fake.set('sdb', documents.USB_BRIDGE);
		const host = open();
		const { values } = await host.until('it is read', (looked) => looked.values.get('SERIAL-sdb')?.['smart'] === 4);
		expect(values.get('SERIAL-sda')).toMatchObject({ smart: 1, wear: 0.09, 'smart.temperature': 34 });
		fake.set('sda', documents.ASLEEP);
		await eventually('the reader has ended', () => readers().length === 0);
		host.look();
		host.clock.advance(3_599_999);
		host.look();
		expect([readers(), fake.asked.length]).toEqual([[], 2]);
		host.clock.advance(1);
		const later = await host.until('it sleeps', (looked) => looked.values.get('SERIAL-sda')?.['smart'] === 2);
		expect(later.values.get('SERIAL-sda')).toMatchObject({ wear: 0.09, passed: 1, 'smart.age': 3600 });
		expect(later.values.get('SERIAL-sda')).not.toHaveProperty('smart.temperature');
		expect(later.facts).toEqual([]);
	});

	it('says how old that is which a disk said of itself, and takes none of it for the temperature of now', async () => {
		fake.set('sda', documents.SATA_SSD);
		fake.set('sdb', documents.SAS_DISK);
		const host = open();
		const { values } = await host.until('it is read', (looked) => looked.values.get('SERIAL-sdb')?.['smart'] === 1);
		expect(values.get('SERIAL-sda')).toMatchObject({ 'smart.temperature': 34, 'smart.age': 0 });
		expect(values.get('SERIAL-sda')).not.toHaveProperty('temperature');
		host.clock.advance(1_800_000);
		expect(host.look().values.get('SERIAL-sda')).toMatchObject({ 'smart.temperature': 34, 'smart.age': 1800 });
		expect(fake.asked).toHaveLength(2);
	});

	it('without smartctl says so, in words, and has no values', async () => {
		const { values, facts } = await open({ program: join(root, 'none') }).until(
			'it is known',
			(looked) => looked.values.get('SERIAL-sdb')?.['smart'] === SMART.noProgram,
		);
		expect(values.get('SERIAL-sda')).toEqual({ smart: SMART.noProgram });
		expect(facts[0]).toMatchObject({
			...{ id: 'SERIAL-sda', code: 'not_readable' },
			raw: 'SMART is not readable: smartctl is not installed (package smartmontools)',
		});
	});

	it('whose reader can not start says so, and asks its disks once it can', async () => {
		fake.set('sda', documents.SATA_SSD);
		fake.set('sdb', documents.SAS_DISK);
		// In the place of its folder.
		writeFileSync(join(root, 'disks'), '');
		const lines: string[] = [];
		const log = createLogger({ name: 'test', destination: { write: (line) => lines.push(line) } });
		const host = new DiskHost(root, { smartctl: fake.program, timeoutMs: 60_000, log });
		hosts.push(host);
		await host.until('it is said', () => lines.length > 0);
		expect(lines.map((line) => JSON.parse(line))).toMatchObject([
			{
				message: 'the reader of disks failed',
				code: 1,
				why: expect.stringContaining('EEXIST'),
				unread: ['sda', 'sdb'],
			},
		]);
		rmSync(join(root, 'disks'));
		host.look();
		expect(fake.asked).toEqual([]);
		host.clock.advance(300_000);
		await host.until('both are read', ({ values }) =>
			['SERIAL-sda', 'SERIAL-sdb'].every((id) => values.get(id)?.['smart'] === SMART.read),
		);
		expect(lines).toHaveLength(1);
	});

	it('has nothing to ask of a virtual disk', () => {
		addDisk(root, 'vda');
		expect(open().look().values.get('SERIAL-vda')).toEqual({ smart: SMART.none });
	});
});
