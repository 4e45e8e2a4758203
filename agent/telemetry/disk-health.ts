import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.ts';
import { loaderArgs } from '../../kit/loader-args.ts';
import type { Logger } from '../../kit/log.ts';
import { isSameProcess, type ProcessIdentity } from '../../kit/process-identity.ts';
import { type DiskHealth, type DiskReading, SMART } from '../probe/disk-health.ts';
import { diskNames } from './disks.ts';

/**
 * What disks say of themselves (SMART), read each hour by a child that ends: wear changes slowly, and a dying disk may not
 * answer. NVMe by an ioctl, SATA and SAS by smartctl where it is installed; a disk that sleeps keeps the values with which
 * it fell asleep. What a reading does not bring is gone with it: an hour later it would pass for now.
 */
export interface DiskHealthOptions {
	readonly clock: Clock;
	readonly log: Logger;
	readonly sysRoot: string;
	/** Default: that of the host's PATH. */
	readonly smartctl?: string;
	/** For one disk. */
	readonly smartctlTimeoutMs?: number;
}

const AGAIN_MS = 3_600_000;
/** A reading that doesn't end brings nothing, and no other is started beside it. */
const KEEP_MS = 2 * AGAIN_MS;
const SMARTCTL_TIMEOUT_MS = 10_000;
/** A host with 60 disks that each take their time is not at fault; one that takes longer is. */
const TIMEOUT_MS = 900_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;
const NO_SMART = /^(vd|xvd|mmcblk|pmem|nvme\d+c)/;

const mainPath = fileURLToPath(
	new URL(import.meta.url.endsWith('.ts') ? '../probe/disk-main.ts' : '../probe/disk-main.js', import.meta.url),
);

interface Kept {
	readonly health: DiskHealth;
	readonly why: string;
	readonly reading: number;
	/** On the monotonic clock. */
	readonly atMs: number;
}

export class DiskHealthReader {
	readonly #options: DiskHealthOptions;
	readonly #found = new Map<string, Kept>();
	/** Programs that don't end, by the disk that they ask: no other is started on it. */
	readonly #hung = new Map<string, ProcessIdentity>();
	#reading = 0;
	#isBusy = false;
	/** On the monotonic clock. */
	#dueAtMs = Number.NEGATIVE_INFINITY;

	constructor(options: DiskHealthOptions) {
		this.#options = options;
	}

	/** What was read last of a disk (`nvme0n1`, `sda`); starts a new reading when it is time. */
	of(device: string): DiskHealth | undefined {
		if (this.#options.clock.monotonic() >= this.#dueAtMs) this.#read();
		if (NO_SMART.test(device)) return { smart: SMART.none };
		const kept = this.#found.get(/^nvme\d+/.exec(device)?.[0] ?? device);
		const isOld = kept !== undefined && this.#options.clock.monotonic() - kept.atMs > KEEP_MS;
		return isOld ? { smart: SMART.failed } : kept?.health;
	}

	#read(): void {
		const { clock, sysRoot, smartctl = 'smartctl', smartctlTimeoutMs = SMARTCTL_TIMEOUT_MS } = this.#options;
		if (this.#isBusy) return;
		this.#dueAtMs = clock.monotonic() + AGAIN_MS;
		if (diskNames(sysRoot).length === 0) return;
		this.#reading += 1;
		for (const [device, identity] of this.#hung) if (!isSameProcess(identity)) this.#hung.delete(device);
		const args = [mainPath, sysRoot, smartctl, String(smartctlTimeoutMs), ...this.#hung.keys()];
		const options = { cwd: '/', env: { PATH: '/usr/bin:/bin' }, timeout: TIMEOUT_MS, maxBuffer: OUTPUT_BYTES_MAX };
		this.#isBusy = true;
		const reading = this.#reading;
		const child = execFile(process.execPath, [...loaderArgs(), ...args], { ...options, killSignal: 'SIGKILL' }, () => {
			this.#isBusy = false;
			this.#forget(reading);
		});
		let rest = '';
		child.stdout?.on('data', (text: string) => {
			const lines = `${rest}${text}`.split('\n');
			rest = lines.pop() ?? '';
			for (const line of lines) this.#take(line, reading);
		});
		child.unref();
	}

	#take(line: string, reading: number): void {
		const said = parse(line);
		if (said === undefined) return;
		const { device, why, hung } = said;
		if (hung !== undefined) this.#hung.set(device, hung);
		const before = this.#found.get(device);
		if (said.health.smart === SMART.failed && before?.why !== why)
			this.#options.log.warn('the health of a disk could not be read', { device, why });
		const former = before?.health;
		const isAsleep = said.health.smart === SMART.asleep && former !== undefined;
		const { temperature: _, ...asItFellAsleep } = former ?? { smart: SMART.asleep };
		const health = isAsleep ? { ...asItFellAsleep, smart: SMART.asleep } : said.health;
		this.#found.set(device, { health, why, reading, atMs: this.#options.clock.monotonic() });
	}

	/** A disk whose program still hangs was not asked again: it is not read, rather than not there. */
	#forget(reading: number): void {
		for (const [device, kept] of this.#found) {
			if (kept.reading === reading) continue;
			if (this.#hung.has(device)) this.#found.set(device, { ...kept, reading, atMs: this.#options.clock.monotonic() });
			else this.#found.delete(device);
		}
	}
}

function parse(line: string): DiskReading | undefined {
	try {
		return JSON.parse(line) as DiskReading;
	} catch {
		return undefined;
	}
}
