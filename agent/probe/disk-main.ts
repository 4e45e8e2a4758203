import { readdirSync } from 'node:fs';
import { systemClock } from '../../kit/clock.ts';
import type { DiskReading } from './disk-health.ts';
import { readNvmeHealth } from './nvme.ts';
import { isSmartctlDisk, readBySmartctl } from './smartctl.ts';

/**
 * `main.ts SYS-ROOT SMARTCTL TIMEOUT-MS [SKIP ...]`: what this machine's disks say of themselves, a line of JSON each
 * (DiskReading) as soon as it is known. Ends by itself. NVMe controllers come last: one that is dying may hold an ioctl,
 * and with it this process, for good.
 */
const DISKS_MAX = 128;
const [sysRoot = '/sys', program = 'smartctl', timeoutMs = '10000', ...skipped] = process.argv.slice(2);

function list(folder: string, isWanted: (name: string) => boolean): readonly string[] {
	try {
		return readdirSync(folder)
			.filter((name) => isWanted(name) && !skipped.includes(name))
			.sort()
			.slice(0, DISKS_MAX);
	} catch {
		// There are none here.
		return [];
	}
}

const say = (reading: DiskReading) => process.stdout.write(`${JSON.stringify(reading)}\n`);
const smartctl = { clock: systemClock, program, timeoutMs: Number(timeoutMs) };
// One after the other: thirty programs at once would be a load of their own.
for (const device of list(`${sysRoot}/block`, isSmartctlDisk)) say(await readBySmartctl(smartctl, device));
for (const device of list(`${sysRoot}/class/nvme`, (name) => /^nvme\d+$/.test(name))) say(readNvmeHealth(device));
