import type { Values } from './proc-files.ts';
import { listFolder, readNumber, readText } from './text-files.ts';

/**
 * Temperatures, fans and power of the machine from /sys/class/hwmon, and the temperatures of its disks. Which sensors
 * there are is looked up once, since a folder there is a dozen reads and changes only with a driver.
 */
const CPU_DRIVERS = new Set(['coretemp', 'k10temp', 'zenpower', 'cpu_thermal']);
const DISK_DRIVERS = new Set(['nvme', 'drivetemp']);
/** Graphics drivers other than NVIDIA's have hwmon too. */
const GPU_DRIVERS = new Set(['amdgpu', 'nouveau', 'xe', 'i915']);
const SENSORS_MAX = 256;
/** Of an NVMe namespace. */
const CONTROLLER = /^nvme\d+(?=n\d+$)/;

interface Sensor {
	readonly group: 'cpu' | 'board' | 'disk';
	/** Of a disk: `nvme0` or `sda`. */
	readonly device: string;
	readonly path: string;
}

export class Sensors {
	readonly #temperatures: readonly Sensor[];
	readonly #fans: readonly string[];
	readonly #power: readonly string[];

	constructor(sysRoot: string) {
		const temperatures: Sensor[] = [];
		const fans: string[] = [];
		const power: string[] = [];
		for (const chip of listFolder(`${sysRoot}/class/hwmon`)) {
			const folder = `${sysRoot}/class/hwmon/${chip}`;
			const driver = readText(`${folder}/name`) ?? '';
			if (GPU_DRIVERS.has(driver)) continue;
			const group = CPU_DRIVERS.has(driver) ? 'cpu' : DISK_DRIVERS.has(driver) ? 'disk' : 'board';
			const device = group === 'disk' ? diskOf(folder) : '';
			for (const file of listFolder(folder)) {
				if (/^temp\d+_input$/.test(file)) temperatures.push({ group, device, path: `${folder}/${file}` });
				else if (/^fan\d+_input$/.test(file)) fans.push(`${folder}/${file}`);
				else if (driver === 'power_meter' && /^power\d+_average$/.test(file)) power.push(`${folder}/${file}`);
			}
		}
		this.#temperatures = temperatures.slice(0, SENSORS_MAX);
		this.#fans = fans.slice(0, SENSORS_MAX);
		this.#power = power;
	}

	sample(values: Values): void {
		for (const group of ['cpu', 'board'] as const) {
			const hottest = this.#hottest((sensor) => sensor.group === group);
			if (!Number.isNaN(hottest)) values.set(`temperature.${group}`, hottest);
		}
		const speeds = this.#fans.map(readNumber).filter((speed) => !Number.isNaN(speed));
		if (speeds.length > 0) values.set('fan.min', Math.min(...speeds));
		const watts = this.#power.map((path) => readNumber(path) / 1e6).filter((value) => !Number.isNaN(value));
		if (watts.length > 0) values.set('power.board', Math.max(...watts));
	}

	/** Degrees Celsius of a disk (`nvme0n1`, `sda`); NaN: it has no sensor. */
	disk(device: string): number {
		const asked = CONTROLLER.exec(device)?.[0] ?? device;
		return this.#hottest((sensor) => sensor.group === 'disk' && sensor.device === asked);
	}

	#hottest(wanted: (sensor: Sensor) => boolean): number {
		let hottest = Number.NaN;
		for (const sensor of this.#temperatures) {
			if (!wanted(sensor)) continue;
			const celsius = readNumber(sensor.path) / 1000;
			if (!(celsius <= hottest) && !Number.isNaN(celsius)) hottest = celsius;
		}
		return hottest;
	}
}

/** An NVMe's hwmon hangs below its controller; that of a SATA disk beside the block device. */
function diskOf(folder: string): string {
	const block = listFolder(`${folder}/device/block`)[0];
	if (block !== undefined) return block;
	return listFolder(`${folder}/device`).flatMap((name) => CONTROLLER.exec(name)?.[0] ?? [])[0] ?? '';
}
