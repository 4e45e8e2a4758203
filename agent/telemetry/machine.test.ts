import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { HealthFactKind as Kind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import { IB_PORT_VALUES } from '../../proto/telemetry-schema/links.ts';
import type { TelemetryMetric } from '../../proto/telemetry-schema/metric.ts';
import { findNvidiaHardware } from '../probe/hardware.ts';
import { sampleDisks } from './disks.ts';
import { type HealthFactInit, HealthFacts } from './health-facts.ts';
import { HostWatch } from './host-watch.ts';
import { sampleIbPorts } from './ib-ports.ts';
import { readDisks, readNics } from './inventory-parts.ts';
import { sampleMachine } from './machine.ts';
import type { Part } from './part.ts';
import type { Values } from './proc-files.ts';
import { Sensors } from './sensors.ts';

/** /proc and /sys of a GPU server, as far as they are read. */
let root: string;
const sys = () => join(root, 'sys');
const proc = () => join(root, 'proc');
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'machine-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function files(of: Readonly<Record<string, string>>): void {
	for (const [path, text] of Object.entries(of)) {
		mkdirSync(dirname(join(root, path)), { recursive: true });
		writeFileSync(join(root, path), `${text}\n`);
	}
}

function known(table: readonly TelemetryMetric[], part: Part | undefined): Record<string, number> {
	const entries = table.map(({ key }, at): [string, number] => [key, part?.values[at] ?? Number.NaN]);
	return Object.fromEntries(entries.filter(([, value]) => !Number.isNaN(value)));
}

const PORT = 'sys/class/infiniband/mlx5_0/ports/1';
const port = (state = '4: ACTIVE', downed = 0) =>
	files({
		[`${PORT}/state`]: state,
		[`${PORT}/phys_state`]: '5: LinkUp',
		[`${PORT}/rate`]: '400 Gb/sec (4X NDR)',
		[`${PORT}/counters/port_xmit_data`]: '1000',
		[`${PORT}/counters/port_rcv_data`]: '2000',
		[`${PORT}/counters/link_downed`]: String(downed),
		[`${PORT}/counters/symbol_error`]: '7',
	});

describe('the machine', () => {
	it('tells memory errors of all controllers, NUMA, and what the kernel counted', () => {
		files({
			'proc/sys/fs/file-nr': '1024\t0\t9223372036854775807',
			'proc/loadavg': '0.50 0.40 0.30 3/812 12345',
			'proc/vmstat': 'pgfault 9\npgmajfault 12\noom_kill 2',
			'sys/devices/system/edac/mc/mc0/ce_count': '3',
			'sys/devices/system/edac/mc/mc1/ce_count': '4',
			'sys/devices/system/edac/mc/mc0/ue_count': '0',
			'sys/devices/system/node/node0/meminfo': 'Node 0 MemFree:  2048 kB',
			'sys/devices/system/node/node1/meminfo': 'Node 1 MemFree:  1024 kB',
		});
		const values: Values = new Map();
		sampleMachine(proc(), sys(), values);
		expect(Object.fromEntries(values)).toEqual({
			'files.open': 1024,
			'processes.total': 812,
			'oom.kills': 2,
			'memory.major_faults': 12,
			'memory.corrected': 7,
			'memory.uncorrected': 0,
			'numa.nodes': 2,
			'numa.free_min': 1024 * 1024,
		});
	});

	it('that shows nothing has no values, not zeros', () => {
		const values: Values = new Map();
		sampleMachine(proc(), sys(), values);
		new Sensors(sys()).sample(values);
		expect([...values]).toEqual([]);
		expect(sampleIbPorts(sys())).toEqual([]);
	});

	it('has sensors by what they measure, and those of other GPUs are not the board', () => {
		files({
			'sys/class/hwmon/hwmon0/name': 'coretemp',
			'sys/class/hwmon/hwmon0/temp1_input': '61000',
			'sys/class/hwmon/hwmon0/temp2_input': '64000',
			'sys/class/hwmon/hwmon1/name': 'acpitz',
			'sys/class/hwmon/hwmon1/temp1_input': '30000',
			'sys/class/hwmon/hwmon1/fan1_input': '4200',
			'sys/class/hwmon/hwmon1/fan2_input': '0',
			'sys/class/hwmon/hwmon2/name': 'amdgpu',
			'sys/class/hwmon/hwmon2/temp1_input': '99000',
			'sys/class/hwmon/hwmon3/name': 'power_meter',
			'sys/class/hwmon/hwmon3/power1_average': '5250000000',
		});
		const values: Values = new Map();
		new Sensors(sys()).sample(values);
		expect(Object.fromEntries(values)).toEqual({
			'temperature.cpu': 64,
			'temperature.board': 30,
			'fan.min': 0,
			'power.board': 5250,
		});
	});
});

it('a sensor is of its own disk alone, not of one whose name begins as its', () => {
	files({
		'sys/class/hwmon/hwmon0/name': 'nvme',
		'sys/class/hwmon/hwmon0/temp1_input': '38000',
		'sys/class/hwmon/hwmon0/device/nvme1n1/size': '1',
		'sys/class/hwmon/hwmon1/name': 'drivetemp',
		'sys/class/hwmon/hwmon1/temp1_input': '31000',
		'sys/class/hwmon/hwmon1/device/block/sda/size': '1',
	});
	const sensors = new Sensors(sys());
	const names = ['nvme1n1', 'nvme1n2', 'nvme10n1', 'nvme1c0n1', 'sda', 'sdaa', 'vda'];
	const none = Number.NaN;
	expect(names.map((name) => sensors.disk(name))).toEqual([38, 38, none, none, 31, none, none]);
});

describe('ports and disks', () => {
	it('a port has state, speed and traffic in bytes', () => {
		port();
		const [part] = sampleIbPorts(sys());
		expect(part).toMatchObject({ id: 'mlx5_0', index: 1 });
		expect(known(IB_PORT_VALUES, part)).toEqual({
			state: 4,
			physical_state: 5,
			rate: 50e9,
			tx: 4000,
			rx: 8000,
			'errors.link_downed': 0,
			'errors.symbol_error': 7,
		});
	});

	it('a disk has the name of its serial, and what the kernel and its sensor say', () => {
		files({
			'proc/diskstats': ' 259 0 nvme0n1 10 0 100 0 5 0 50 0 0 1500 0',
			'sys/block/nvme0n1/device/serial': 'S6EUNX0T',
			'sys/block/nvme0n1/device/model': 'SAMSUNG MZQL21T9',
			'sys/block/nvme0n1/device/firmware_rev': 'GDC5602Q',
			'sys/block/nvme0n1/size': '3750748848',
			'sys/block/nvme0n1/queue/rotational': '0',
			'sys/block/loop0/size': '8',
			'sys/class/nvme/nvme0/state': 'live',
			'sys/class/hwmon/hwmon0/name': 'nvme',
			'sys/class/hwmon/hwmon0/temp1_input': '38850',
			'sys/class/hwmon/hwmon0/device/nvme0n1/size': '1',
		});
		const roots = { procRoot: proc(), sysRoot: sys() };
		const health = { smart: 1, wear: 0.03, spare: 1, mediaErrors: 0, criticalWarning: 0 };
		const disks = sampleDisks(roots, new Sensors(sys()), () => ({ health, ageSeconds: 60 }));
		expect(disks.map(({ id }) => id)).toEqual(['S6EUNX0T']);
		expect(known(DISK_VALUES, disks[0])).toEqual({
			read: 51_200,
			written: 25_600,
			busy: 1.5,
			temperature: 38.85,
			wear: 0.03,
			spare: 1,
			media_errors: 0,
			critical_warning: 0,
			live: 1,
			smart: 1,
			'smart.age': 60,
		});
		expect(readDisks(sys())).toMatchObject([
			{ id: 'S6EUNX0T', device: 'nvme0n1', model: 'SAMSUNG MZQL21T9', bytes: 1_920_383_410_176n, transport: 'nvme' },
		]);
	});

	it('network devices are those with hardware below them', () => {
		files({
			'sys/devices/pci/0000:1a:00.0/vendor': '0x15b3',
			'sys/devices/pci/0000:1a:00.0/device': '0x1021',
			'sys/devices/pci/0000:1a:00.0/numa_node': '1',
			'sys/class/net/eth0/address': '02:00:00:00:00:01',
			'sys/class/net/docker0/address': '02:00:00:00:00:02',
			'sys/class/infiniband/mlx5_0/node_guid': '9803:9b03:0000:0001',
			'sys/class/infiniband/mlx5_0/fw_ver': '28.39.1002',
		});
		port();
		symlinkSync('../../../devices/pci/0000:1a:00.0', join(sys(), 'class/net/eth0/device'));
		symlinkSync('../../../devices/pci/0000:1a:00.0', join(sys(), 'class/infiniband/mlx5_0/device'));
		expect(readNics(sys())).toMatchObject([
			{ device: 'eth0', pciAddress: '0000:1a:00.0', mac: '02:00:00:00:00:01', vendor: '0x15b3', numaNode: 1 },
			{ device: 'mlx5_0', guid: '9803:9b03:0000:0001', firmware: '28.39.1002', ibPorts: 1 },
		]);
	});

	it('become facts when a port goes down and comes back, and when its errors rise', () => {
		const clock = new VirtualClock();
		const sent: HealthFactInit[] = [];
		const append = (fact: HealthFactInit) => sent.push(fact);
		const facts = new HealthFacts({ clock, log: silentLogger, bootId: 'b', append, isSimulated: () => false });
		const watch = new HostWatch(facts);
		const look = () => {
			sent.length = 0;
			watch.observe(new Float64Array(), { ibPorts: sampleIbPorts(sys()), disks: [] }, clock.monotonic());
			clock.advance(61_000);
			return sent.map(({ kind, code, before, after }) => [kind, code, before, after]);
		};
		port();
		// Errors of before this boot's first look are told once, as ongoing.
		expect(look()).toEqual([[Kind.IB_PORT_ERRORS, 'symbol_error', 0, 7]]);
		port('1: DOWN', 1);
		expect(look()).toEqual([
			[Kind.IB_PORT_STATE, 'state', 4, 1],
			[Kind.IB_PORT_ERRORS, 'link_downed', 0, 1],
		]);
		port('4: ACTIVE', 1);
		expect(look()).toEqual([[Kind.IB_PORT_STATE, 'state', 1, 4]]);
		expect(look()).toEqual([]);
	});
});

describe('NVIDIA hardware', () => {
	const device = (address: string, vendor: string, kind: string) =>
		files({ [`sys/bus/pci/devices/${address}/vendor`]: vendor, [`sys/bus/pci/devices/${address}/class`]: kind });

	it('is seen on the bus, without a driver too; an NVSwitch or an audio function is no GPU', () => {
		device('0000:1b:00.0', '0x10de', '0x030200');
		device('0000:05:00.0', '0x10de', '0x068000');
		device('0000:00:02.0', '0x8086', '0x030000');
		expect(findNvidiaHardware(root)).toEqual({ gpus: ['0000:1b:00.0'], kernelDriver: '' });
	});

	it('is its kernel module where the bus is hidden', () => {
		files({
			'proc/driver/nvidia/version':
				'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12',
		});
		expect(findNvidiaHardware(root)).toEqual({ gpus: [], kernelDriver: '570.86.15' });
	});

	it('is not there', () => {
		expect(findNvidiaHardware(root)).toEqual({ gpus: [], kernelDriver: '' });
	});
});
