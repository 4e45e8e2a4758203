import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { HealthSource, HealthFactKind as Kind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type HealthFactInit, HealthFacts } from './health-facts.ts';
import { Kmsg, parseRecord } from './kmsg.ts';
import { normalisePci, parseDriverLine } from './xid.ts';
import { XidWatch } from './xid-watch.ts';

describe('records of the kernel log', () => {
	it('are those of facility 0; what user space wrote to /dev/kmsg is not', () => {
		expect(parseRecord('4,120,5000000,-;NVRM: Xid (PCI:0000:3b:00): 79')).toEqual({
			sequence: 120,
			atUs: 5_000_000,
			text: 'NVRM: Xid (PCI:0000:3b:00): 79',
		});
		// Facility 1, user: priority 8 to 15.
		expect(parseRecord('12,121,5000001,-;NVRM: Xid (PCI:0000:3b:00): 79, forged')).toBeUndefined();
		expect(parseRecord(' SUBSYSTEM=pci')).toBeUndefined();
	});
});

describe('lines of the driver', () => {
	it.each([
		["NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", 'xid', 79],
		['NVRM: Xid (PCI:0000:9b:00): 63, Row Remapper: New row marked for remapping', 'xid', 63],
		['NVRM: Xid (0000:9b:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 09 (0x008c8d40 0x00000000)', 'xid', 149],
		['nvidia-nvswitch3: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 30 LTSSM Fault Up', 'sxid', 20034],
	])('%s', (text, kind, code) => {
		expect(parseDriverLine(text)).toMatchObject({ kind, code });
	});

	it('name a GPU that left the bus, and the UUID behind an address', () => {
		expect(parseDriverLine('NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.')).toEqual({
			kind: 'fallen-off-bus',
			pciAddress: '0000:3b:00',
		});
		expect(parseDriverLine('NVRM: GPU at PCI:0000:3b:00: GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee')).toEqual({
			kind: 'identity',
			pciAddress: '0000:3b:00',
			uuid: 'GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee',
		});
		expect(parseDriverLine('NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.86.15')).toBeUndefined();
	});

	it('write one address in several ways', () => {
		for (const address of ['PCI:0000:3B:00', '00000000:3B:00.0', '0000:3b:00.0', '0000:3b:00'])
			expect(normalisePci(address)).toBe('0000:3b:00');
	});
});

describe('the watch', () => {
	const uuid = 'GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
	const line = (sequence: number, code: number, atUs = 1_000_000) =>
		`4,${sequence},${atUs},-;NVRM: Xid (PCI:0000:3b:00): ${code}, text\n`;
	let folder: string;
	beforeEach(() => {
		folder = mkdtempSync(join(tmpdir(), 'kmsg-'));
	});
	afterEach(() => rmSync(folder, { recursive: true, force: true }));

	/** A file stands in for the device: it is read to its end, as the device is until it has nothing more. */
	function watch(text: string | undefined, kept?: string) {
		const path = join(folder, 'kmsg');
		if (text !== undefined) writeFileSync(path, text);
		const clock = new VirtualClock();
		const sent: HealthFactInit[] = [];
		const facts = new HealthFacts({
			clock,
			log: silentLogger,
			bootId: 'boot-1',
			append: (fact) => sent.push(fact),
			isSimulated: () => true,
		});
		let position = kept;
		let isFull = false;
		const errors: string[] = [];
		const log: Logger = { ...silentLogger, error: (message) => errors.push(message) };
		const xids = new XidWatch({
			clock,
			rng: systemRng,
			log,
			facts,
			kmsgPath: path,
			bootId: 'boot-1',
			uptimeMs: () => 61_000,
			position: {
				get: () => position,
				put: (value) => {
					if (isFull) throw new Error('no space left');
					position = value;
				},
			},
		});
		xids.setGpus([{ uuid, pciBusId: '00000000:3B:00.0' }]);
		xids.start();
		return {
			clock,
			sent,
			xids,
			path,
			errors,
			setFull: (full: boolean) => {
				isFull = full;
			},
			position: () => position,
			append: (more: string) => writeFileSync(path, more, { flag: 'a' }),
		};
	}

	it('makes a fact of each XID, with the GPU and the time that the kernel had', () => {
		const { sent, clock, xids, position } = watch(line(7, 79));
		expect(sent).toMatchObject([
			{
				kind: Kind.XID,
				source: HealthSource.KMSG,
				code: 'xid:79',
				subject: { id: uuid },
				simulated: true,
				bootId: 'boot-1',
				count: 1,
			},
		]);
		// A minute after boot, one second past it by the kernel's clock.
		expect(Number(sent[0]?.observedAt?.seconds) * 1000).toBeCloseTo(clock.now() - 60_000, -3);
		expect(xids.lastXid(uuid)).toBe(79);
		expect(position()).toBe('boot-1 7');
	});

	it('goes on where the agent before it stopped, in this boot only', () => {
		const again = watch(line(7, 79) + line(8, 31), 'boot-1 7');
		expect(again.sent.map(({ code }) => code)).toEqual(['xid:31']);
		// The newest is known all the same.
		expect(again.xids.lastXid(uuid)).toBe(31);
		expect(watch(line(7, 79), 'boot-0 900').sent).toHaveLength(1);
	});

	it('looks again each second, and counts what repeats', () => {
		const { sent, clock, append } = watch(line(7, 31));
		append(line(8, 31) + line(9, 31));
		clock.advance(1000);
		expect(sent).toHaveLength(1);
		clock.advance(60_000);
		expect(sent).toMatchObject([
			{ code: 'xid:31', count: 1 },
			{ code: 'xid:31', count: 2 },
		]);
	});

	it('takes events of the driver for what the log did not say', () => {
		const { sent, clock, xids, append } = watch(line(7, 31));
		const event = (xid: number) => ({ uuid, type: 8, xid, gpuInstance: 0xffff_ffff });
		append(line(8, 94));
		xids.takeEvents([event(31), event(94)]);
		expect(sent.map(({ code }) => code)).toEqual(['xid:31', 'xid:94']);
		xids.takeEvents([event(48)]);
		expect(sent.at(-1)).toMatchObject({ code: 'xid:48', source: HealthSource.NVML });
		// Long after the log told it: another one.
		clock.advance(30_000);
		xids.takeEvents([]);
		clock.advance(30_000);
		xids.takeEvents([event(94)]);
		expect(sent.at(-1)).toMatchObject({ code: 'xid:94', source: HealthSource.NVML });
	});

	it('says that the log can not be read, and that the newest XID is then unknown', () => {
		const { sent, xids } = watch(undefined);
		expect(sent).toMatchObject([{ kind: Kind.KMSG_UNAVAILABLE, code: 'ENOENT', ongoing: true }]);
		expect(xids.lastXid(uuid)).toBeNaN();
		xids.takeEvents([{ uuid, type: 8, xid: 48, gpuInstance: 0 }]);
		expect(xids.lastXid(uuid)).toBe(48);
	});

	it('goes on while the journal takes nothing, and keeps where it stands when it does again', () => {
		const { sent, clock, append, position, setFull, errors } = watch(line(7, 79));
		setFull(true);
		append(line(8, 31));
		clock.advance(1000);
		append(line(9, 48));
		clock.advance(1000);
		expect(sent.map(({ code }) => code)).toEqual(['xid:79', 'xid:31', 'xid:48']);
		expect(position()).toBe('boot-1 7');
		expect(errors).toEqual(['how far the kernel log was read could not be kept; trying again']);
		setFull(false);
		// Nothing new in the log.
		clock.advance(1000);
		expect(position()).toBe('boot-1 9');
	});

	it('opens a log that broke again, and tells what came meanwhile once', () => {
		// A folder can be opened and not read.
		mkdirSync(join(folder, 'kmsg'));
		const { sent, clock, xids, path } = watch(undefined);
		expect(sent).toMatchObject([{ kind: Kind.KMSG_UNAVAILABLE, code: 'EISDIR', ongoing: true }]);
		clock.advance(600_000);
		xids.takeEvents([]);
		expect(sent).toHaveLength(1);
		rmdirSync(path);
		writeFileSync(path, line(7, 79));
		clock.advance(300_000);
		expect(sent.slice(1)).toMatchObject([{ kind: Kind.XID, code: 'xid:79', source: HealthSource.KMSG }]);
		writeFileSync(path, line(8, 31), { flag: 'a' });
		clock.advance(1000);
		expect(sent.at(-1)).toMatchObject({ code: 'xid:31' });
		xids[Symbol.dispose]();
		writeFileSync(path, line(9, 48), { flag: 'a' });
		clock.advance(600_000);
		expect(sent).toHaveLength(3);
	});

	it('what is yet to be read of an old log is unknown, so that it does not look like a new one', () => {
		// More than one look reads: a thousand times what one record may have.
		const { xids, clock } = watch(`${'x\n'.repeat((1000 * 16_384) / 2)}${line(120, 79)}`);
		expect(xids.lastXid(uuid)).toBeNaN();
		clock.advance(1000);
		expect(xids.lastXid(uuid)).toBe(79);
	});

	it('none yet is 0', () => {
		expect(watch('').xids.lastXid(uuid)).toBe(0);
	});
});

it('the real kernel log is read without waiting', () => {
	let kmsg: Kmsg;
	try {
		kmsg = new Kmsg();
	} catch (error) {
		// A container without the device, or one where it is forbidden: named as the agent would.
		expect(['EPERM', 'EACCES', 'ENOENT']).toContain((error as NodeJS.ErrnoException).code);
		return;
	}
	using _open = kmsg;
	const first = kmsg.look();
	expect(first.records.every(({ sequence }, at) => at === 0 || sequence > (first.records[at - 1]?.sequence ?? 0))).toBe(
		true,
	);
});
