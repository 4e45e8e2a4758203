import { closeSync, openSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { type DiskHealth, type DiskReading, SMART, without } from './disk-health.ts';

/**
 * The SMART log of an NVMe controller by the admin command Get Log Page (NVM Express Base 2.0, 5.16.1.3): Node has no ioctl,
 * koffi calls libc's. Read-only; root only on most kernels. Called by a short-lived process a controller (nvme-main.ts),
 * because one that is dying may keep an ioctl waiting. The command has no deadline of its own (timeout_ms 0: the driver's,
 * nvme_core.admin_timeout): when one passes, Linux resets the controller under whatever uses it.
 */
/** _IOWR('N', 0x41, struct nvme_admin_cmd): 72 bytes (linux/nvme_ioctl.h). */
const NVME_IOCTL_ADMIN_CMD = 0xc048_4e41;
const COMMAND_BYTES = 72;
const GET_LOG_PAGE = 0x02;
const SMART_LOG = 0x02;
const SMART_BYTES = 512;
/** Every namespace. */
const NAMESPACE_ALL = 0xffff_ffff;

/** Of a controller (`nvme0`). */
export function readNvmeHealth(device: string, folder = '/dev'): DiskReading {
	const failed = (why: string) => without(device, SMART.failed, why);
	let fd: number;
	try {
		fd = openSync(`${folder}/${device}`, 'r');
	} catch (error) {
		return failed(`the controller could not be opened: ${(error as NodeJS.ErrnoException).code ?? 'unknown'}`);
	}
	try {
		const log = Buffer.alloc(SMART_BYTES);
		const command = smartLogCommand(BigInt(koffi.address(log)));
		const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, void *argument)');
		const result: number = ioctl(fd, NVME_IOCTL_ADMIN_CMD, command);
		return result === 0
			? { device, health: parseSmartLog(log), why: '' }
			: failed(whyNot(result, result < 0 ? koffi.errno() : 0));
	} finally {
		closeSync(fd);
	}
}

/** struct nvme_admin_cmd; `address`: of the 512 bytes that the log goes to. */
export function smartLogCommand(address: bigint): Buffer {
	const command = Buffer.alloc(COMMAND_BYTES);
	command.writeUInt8(GET_LOG_PAGE, 0);
	command.writeUInt32LE(NAMESPACE_ALL, 4);
	command.writeBigUInt64LE(address, 24);
	command.writeUInt32LE(SMART_BYTES, 36);
	// Number of double words, less one, above the number of the log.
	command.writeUInt32LE(((SMART_BYTES / 4 - 1) << 16) | SMART_LOG, 40);
	return command;
}

/** Of the ioctl: above 0 it is the status of the command (NVM Express Base 2.0, 4.5.1.2.1), below it errno tells. */
export function whyNot(result: number, errno: number): string {
	if (result > 0) return `the controller gave no SMART log: NVMe status 0x${result.toString(16)}`;
	const name = getSystemErrorName(-errno);
	// The driver's deadline passed, or the controller is being reset (nvme_req_cancelled).
	if (name === 'EINTR') return 'the kernel gave up the command for the SMART log: EINTR';
	return `the SMART log could not be asked for: ${name}`;
}

/** What nvme-main.ts prints. */
export function parseNvmeLine(device: string, stdout: string): DiskReading {
	try {
		const { health, why } = JSON.parse(stdout) as DiskReading;
		return { device, health, why };
	} catch {
		return without(device, SMART.failed, 'the process that reads it failed');
	}
}

/** Percentages become ratios; wear may pass 1 (255 % is the highest that it says). */
export function parseSmartLog(log: Buffer): DiskHealth {
	return {
		smart: SMART.read,
		criticalWarning: log.readUInt8(0),
		spare: log.readUInt8(3) / 100,
		wear: log.readUInt8(5) / 100,
		// 128 bits, of which no disk that still answers needs more than 64.
		mediaErrors: Number(log.readBigUInt64LE(160)),
		powerOnSeconds: Number(log.readBigUInt64LE(128)) * 3600,
		errorsLogged: Number(log.readBigUInt64LE(176)),
	};
}
