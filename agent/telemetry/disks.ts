import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import type { SaidOfDisk } from './disk-health.ts';
import type { Part } from './part.ts';
import type { Sensors } from './sensors.ts';
import { listFolder, readText } from './text-files.ts';

/** Whole disks that stand on hardware, each with a name that outlives a reboot: serial, else WWID, else the kernel's. */
const NOT_HARDWARE = /^(loop|ram|zram|dm-|md|sr|fd|nbd|rbd)/;
const DISKS_MAX = 256;
const SECTOR_BYTES = 512;

export interface Disk {
	readonly id: string;
	readonly device: string;
}

/** Kernel names alone: what each sample needs. */
export function diskNames(sysRoot: string): readonly string[] {
	return listFolder(`${sysRoot}/block`).filter((device) => !NOT_HARDWARE.test(device));
}

export function listDisks(sysRoot: string): readonly Disk[] {
	const disks: Disk[] = [];
	const seen = new Set<string>();
	for (const device of diskNames(sysRoot).slice(0, DISKS_MAX)) {
		const folder = `${sysRoot}/block/${device}`;
		const named =
			readText(`${folder}/device/serial`) || readText(`${folder}/wwid`) || readText(`${folder}/device/wwid`);
		// Cheap virtual disks share one serial.
		const id = named === undefined || named === '' || seen.has(named) ? device : named.slice(0, 96);
		seen.add(id);
		disks.push({ id, device });
	}
	return disks;
}

export function sampleDisks(
	roots: { readonly procRoot: string; readonly sysRoot: string },
	sensors: Sensors,
	saidOf: (device: string) => SaidOfDisk | undefined,
): readonly Part[] {
	const statistics = new Map<string, readonly string[]>();
	for (const line of (readText(`${roots.procRoot}/diskstats`) ?? '').split('\n')) {
		const fields = line.trim().split(/\s+/);
		statistics.set(fields[2] ?? '', fields);
	}
	return listDisks(roots.sysRoot).map(({ id, device }) => {
		const fields = statistics.get(device) ?? [];
		const { health, ageSeconds } = saidOf(device) ?? {};
		const known: Readonly<Record<string, number | undefined>> = {
			read: Number(fields[5] ?? Number.NaN) * SECTOR_BYTES,
			written: Number(fields[9] ?? Number.NaN) * SECTOR_BYTES,
			busy: Number(fields[12] ?? Number.NaN) / 1000,
			temperature: sensors.disk(device),
			wear: health?.wear,
			spare: health?.spare,
			media_errors: health?.mediaErrors,
			critical_warning: health?.criticalWarning,
			live: isLive(roots.sysRoot, device),
			smart: health?.smart,
			passed: health?.passed,
			reallocated: health?.reallocated,
			pending: health?.pending,
			uncorrectable: health?.uncorrectable,
			power_on: health?.powerOnSeconds,
			errors_logged: health?.errorsLogged,
			'smart.temperature': health?.temperature,
			'smart.age': ageSeconds,
		};
		return { id, index: 0, values: Float64Array.from(DISK_VALUES, ({ key }) => known[key] ?? Number.NaN) };
	});
}

function isLive(sysRoot: string, device: string): number {
	const controller = /^(nvme\d+)n\d+$/.exec(device)?.[1];
	if (controller === undefined) return Number.NaN;
	const state = readText(`${sysRoot}/class/nvme/${controller}/state`);
	return state === undefined ? Number.NaN : state === 'live' ? 1 : 0;
}
