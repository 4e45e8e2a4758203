import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SMART } from '../../agent/probe/disk-health.ts';
import { parseSmartctl } from '../../agent/probe/smartctl-document.ts';
import { DiskHealthReader } from '../../agent/telemetry/disk-health.ts';
import { sampleDisks } from '../../agent/telemetry/disks.ts';
import { type HealthFactInit, HealthFacts } from '../../agent/telemetry/health-facts.ts';
import { HostWatch } from '../../agent/telemetry/host-watch.ts';
import { Sensors } from '../../agent/telemetry/sensors.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import { eventually } from '../eventually.ts';
import * as documents from '../fakes/smartctl/documents.ts';
import { FakeSmartctl } from '../fakes/smartctl/smartctl.ts';

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
		expect(parsed(document)).toEqual({ health: { smart }, why });
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

describe('a host', () => {
	let root: string;
	let fake: FakeSmartctl;
	beforeEach(() => {
		root = mkdtempSync(join(tmpdir(), 'disk-health-'));
		fake = new FakeSmartctl(join(root, 'fake'));
		for (const device of ['sda', 'sdb']) disk(device);
	});
	afterEach(() => rmSync(root, { recursive: true, force: true }));

	function disk(device: string): void {
		const path = join(root, `sys/block/${device}/device/serial`);
		mkdirSync(dirname(path), { recursive: true });
		writeFileSync(path, `SERIAL-${device}\n`);
	}

	function open({ program = fake.program, timeoutMs = 60_000 } = {}) {
		const clock = new VirtualClock();
		const sent: HealthFactInit[] = [];
		const facts = new HealthFacts({
			...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false },
			append: (fact) => sent.push(fact),
		});
		const watch = new HostWatch(facts);
		const options = { clock, log: silentLogger, sysRoot: join(root, 'sys') };
		const reader = new DiskHealthReader({ ...options, smartctl: program, smartctlTimeoutMs: timeoutMs });
		const roots = { procRoot: join(root, 'proc'), sysRoot: join(root, 'sys') };
		const sensors = new Sensors(roots.sysRoot);
		return {
			clock,
			/** As each slow sample does. */
			look() {
				const disks = sampleDisks(roots, sensors, (device) => reader.of(device));
				sent.length = 0;
				watch.observe(new Float64Array(), { ibPorts: [], disks }, clock.monotonic());
				const values = disks.map(({ id, values: row }) => {
					const all = DISK_VALUES.map(({ key }, at): [string, number] => [key, row[at] ?? Number.NaN]);
					return [id, Object.fromEntries(all.filter(([, value]) => !Number.isNaN(value)))] as const;
				});
				return {
					values: new Map(values),
					facts: sent.map(({ subject, code, after, raw }) => ({ id: subject?.id, code, after, raw })),
				};
			},
		};
	}

	type Looked = ReturnType<ReturnType<typeof open>['look']>;
	const until = (what: string, host: ReturnType<typeof open>, isSo: (looked: Looked) => boolean) =>
		eventually(what, () => {
			const looked = host.look();
			return isSo(looked) && looked;
		});

	it('has the values of its disks, asks only to read and never wakes one, and tells what is wrong', async () => {
		fake.set('sda', documents.SATA_FAILING);
		fake.set('sdb', documents.SAS_DISK);
		const host = open();
		const told: Looked['facts'][number][] = [];
		const { values } = await until('both are read', host, (looked) => {
			told.push(...looked.facts);
			return looked.values.get('SERIAL-sda')?.['smart'] === 1 && looked.values.get('SERIAL-sdb')?.['smart'] === 1;
		});
		expect(values.get('SERIAL-sda')).toMatchObject({ passed: 0, reallocated: 72, pending: 8, temperature: 34 });
		expect(values.get('SERIAL-sdb')).toMatchObject({ wear: 0.03, media_errors: 3, power_on: 3862 * 3600 });
		expect(fake.asked).toEqual(['a', 'b'].map((letter) => `--json=c --all --nocheck=standby /dev/sd${letter}`));
		expect(told.filter(({ id }) => id === 'SERIAL-sda').map(({ code, after }) => [code, after])).toEqual([
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
		const { values } = await until('it is read', host, (looked) => looked.values.get('SERIAL-sdb')?.['smart'] === 4);
		expect(values.get('SERIAL-sda')).toMatchObject({ smart: 1, wear: 0.09, temperature: 34 });
		fake.set('sda', documents.ASLEEP);
		host.look();
		expect(fake.asked).toHaveLength(2);
		host.clock.advance(3_600_000);
		const later = await until('it sleeps', host, (looked) => looked.values.get('SERIAL-sda')?.['smart'] === 2);
		expect(later.values.get('SERIAL-sda')).toMatchObject({ wear: 0.09, passed: 1 });
		expect(later.values.get('SERIAL-sda')).not.toHaveProperty('temperature');
		expect(later.facts).toEqual([]);
	});

	it('without smartctl says so, in words, and has no values', async () => {
		const host = open({ program: join(root, 'none') });
		const told: Looked['facts'][number][] = [];
		const { values } = await until('it is known', host, (looked) => {
			told.push(...looked.facts);
			return looked.values.get('SERIAL-sdb')?.['smart'] === SMART.noProgram;
		});
		expect(values.get('SERIAL-sda')).toEqual({ smart: SMART.noProgram });
		expect(told[0]).toMatchObject({
			...{ id: 'SERIAL-sda', code: 'not_readable' },
			raw: 'SMART is not readable: smartctl is not installed (package smartmontools)',
		});
	});

	it('with a disk that keeps smartctl waiting ends it and has the values of the others', async () => {
		fake.set('sdb', documents.SAS_DISK);
		fake.hang('sda');
		const host = open({ timeoutMs: 300 });
		const { values } = await until(
			'the other is read',
			host,
			(looked) => looked.values.get('SERIAL-sdb')?.['smart'] === 1,
		);
		expect(values.get('SERIAL-sda')).toEqual({ smart: SMART.failed });
	});

	it('has nothing to ask of a virtual disk', () => {
		disk('vda');
		expect(open().look().values.get('SERIAL-vda')).toEqual({ smart: SMART.none });
	});
});
