import { constants } from 'node:os';
import { expect, it } from 'vitest';
import { SMART } from './disk-health.ts';
import { parseSmartLog, readNvmeHealth, smartLogCommand, whyNot } from './nvme.ts';

it('reads wear, spare, warnings and media errors from their places in the log', () => {
	const log = Buffer.alloc(512);
	log.writeUInt8(0x04, 0);
	log.writeUInt8(97, 3);
	log.writeUInt8(112, 5);
	log.writeBigUInt64LE(10n, 128);
	log.writeBigUInt64LE(12n, 160);
	log.writeBigUInt64LE(7n, 176);
	expect(parseSmartLog(log)).toEqual({
		...{ smart: SMART.read, criticalWarning: 4, spare: 0.97, wear: 1.12, mediaErrors: 12 },
		...{ powerOnSeconds: 36_000, errorsLogged: 7 },
	});
});

it('has nothing of what is no NVMe controller, or not there', () => {
	const refused = {
		device: 'null',
		health: { smart: SMART.failed },
		why: 'the SMART log could not be asked for: ENOTTY',
	};
	expect(readNvmeHealth('null')).toEqual(refused);
	expect(readNvmeHealth('nonexistent').why).toBe('the controller could not be opened: ENOENT');
});

it('asks for the log with no deadline of its own: past one Linux resets the controller', () => {
	const command = smartLogCommand(0x7000n);
	expect([command.readUInt8(0), command.readBigUInt64LE(24), command.readUInt32LE(36)]).toEqual([2, 0x7000n, 512]);
	// timeout_ms, at its place in linux/nvme_ioctl.h.
	expect([command.length, command.readUInt32LE(64)]).toEqual([72, 0]);
});

it('says who refused: the controller, or the kernel, and why', () => {
	expect(whyNot(0x4002, 0)).toBe('the controller gave no SMART log: NVMe status 0x4002');
	expect(whyNot(-1, constants.errno.EACCES)).toBe('the SMART log could not be asked for: EACCES');
	expect(whyNot(-1, constants.errno.EINTR)).toBe('the kernel gave up the command for the SMART log: EINTR');
});
