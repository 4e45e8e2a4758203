import { type ChildProcess, type ExecFileException, execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.ts';
import { loaderArgs } from '../../kit/loader-args.ts';
import type { Logger } from '../../kit/log.ts';
import { recordedDevices } from '../probe/disk-children.ts';
import { type DiskHang, type DiskHealth, type DiskReading, isAnswer, SMART } from '../probe/disk-health.ts';
import { SMALL_HEAP_ARGS } from '../probe/small-heap.ts';
import { isSmartctlDisk } from '../probe/smartctl.ts';
import { listFolder } from './text-files.ts';

/**
 * What disks say of themselves (SMART), read each hour by a child that ends and asks each by a process of its own: wear
 * changes slowly, and a dying disk may not answer. NVMe by an ioctl, SATA and SAS by smartctl where it is installed; a disk
 * that sleeps keeps the values with which it fell asleep. What a reading does not bring is gone with it: an hour later it
 * would pass for now. One that was late for the first time keeps its values, with their age. A disk that was late, does not
 * answer, or that a reader which failed did not come to is asked again sooner, after the others.
 */
export interface DiskHealthOptions {
	readonly clock: Clock;
	readonly log: Logger;
	readonly sysRoot: string;
	/** Private folder for what the child has to remember. */
	readonly folder: string;
	/** Default: that of the host's PATH. */
	readonly smartctl?: string;
	/** For one disk. */
	readonly timeoutMs?: number;
	/** Another than our own. */
	readonly nvmeReader?: readonly string[];
}

/** Of one disk, as it was said last. */
export interface SaidOfDisk {
	readonly health: DiskHealth;
	/** Since its values were read. Undefined: it has none. */
	readonly ageSeconds: number | undefined;
}

export interface HungDisk extends DiskHang {
	/** `sda`, or the controller: `nvme0`. */
	readonly device: string;
}

const AGAIN_MS = 3_600_000;
const SOON_AGAIN_MS = 300_000;
/** A reading that doesn't end brings nothing, and no other is started beside it. */
const KEEP_MS = 2 * AGAIN_MS;
const TIMEOUT_MS = 10_000;
/** A host with 60 disks that each take their time is not at fault; one that takes longer is. */
const READING_TIMEOUT_MS = 1_200_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;
const STDERR_LENGTH_MAX = 500;
const DEVICES_MAX = 128;
const NO_SMART = /^(vd|xvd|mmcblk|pmem|nvme\d+c)/;

const mainPath = fileURLToPath(
	new URL(import.meta.url.endsWith('.ts') ? '../probe/disk-main.ts' : '../probe/disk-main.js', import.meta.url),
);

interface Kept {
	readonly health: DiskHealth;
	readonly why: string;
	readonly hang: DiskHang | undefined;
	/** It hung, and the disk itself has not answered since. */
	readonly isOpenHang: boolean;
	readonly isLate: boolean;
	/** It is what the disk itself said. */
	readonly isAnswer: boolean;
	/** On the monotonic clock: when its values were read, and when anything was said of it. */
	readonly readAtMs: number | undefined;
	readonly saidAtMs: number;
}

export class DiskHealthReader implements Disposable {
	readonly #options: DiskHealthOptions;
	/** By device, or controller. */
	readonly #found = new Map<string, Kept>();
	/** On the monotonic clock: also where nothing was said. */
	readonly #askedAtMs = new Map<string, number>();
	/** Asked, and nothing was said of them; after a reading that failed until the next. */
	readonly #unsaid = new Set<string>();
	#isDisposed = false;
	#child: ChildProcess | undefined;
	/** On the monotonic clock. */
	#dueAtMs = Number.NEGATIVE_INFINITY;

	constructor(options: DiskHealthOptions) {
		this.#options = options;
	}

	/** Starts a new reading when it is time. */
	look(): void {
		const nowMs = this.#options.clock.monotonic();
		if (nowMs >= this.#dueAtMs) this.#read(nowMs);
	}

	/** What was read last of a disk (`nvme0n1`, `sda`). */
	of(disk: string): SaidOfDisk | undefined {
		const nowMs = this.#options.clock.monotonic();
		if (!hasSmart(disk)) return { health: { smart: SMART.none }, ageSeconds: undefined };
		const kept = this.#found.get(deviceOf(disk));
		if (kept === undefined) return undefined;
		if (nowMs - kept.saidAtMs > KEEP_MS) {
			// That nobody can ask it is no sign that it answers.
			const smart = kept.hang === undefined ? SMART.failed : SMART.hung;
			return { health: { smart }, ageSeconds: undefined };
		}
		const { health, readAtMs } = kept;
		return { health, ageSeconds: readAtMs === undefined ? undefined : (nowMs - readAtMs) / 1000 };
	}

	/** Those that did not answer when they were asked last. */
	get hung(): readonly HungDisk[] {
		return [...this.#found].flatMap(([device, { hang }]) => (hang === undefined ? [] : [{ device, ...hang }]));
	}

	/** The last that was said of a disk (`nvme0n1`, `sda`) is its own word: it answers. */
	hasAnswered(disk: string): boolean {
		return hasSmart(disk) && this.#found.get(deviceOf(disk))?.isAnswer === true;
	}

	/** A disk that is being read is left to itself: the next agent finds its process. */
	[Symbol.dispose](): void {
		this.#isDisposed = true;
		this.#child?.kill('SIGKILL');
		this.#child?.stdout?.destroy();
	}

	#read(nowMs: number): void {
		if (this.#child !== undefined) return;
		const present = this.#devices();
		for (const device of this.#found.keys()) if (!present.includes(device)) this.#found.delete(device);
		for (const device of this.#askedAtMs.keys()) if (!present.includes(device)) this.#askedAtMs.delete(device);
		for (const device of this.#unsaid) if (!present.includes(device)) this.#unsaid.delete(device);
		const due = present.filter((device) => nowMs >= this.#dueOf(device));
		for (const device of due) this.#askedAtMs.set(device, nowMs);
		this.#schedule(present);
		if (due.length === 0) return;
		const { folder, smartctl = 'smartctl', timeoutMs = TIMEOUT_MS, nvmeReader } = this.#options;
		// Last those that may take their whole time.
		const devices = due.toSorted((left, right) => Number(this.#isSlow(left)) - Number(this.#isSlow(right)));
		for (const device of devices) this.#unsaid.add(device);
		const args = [...SMALL_HEAP_ARGS, ...loaderArgs(), mainPath];
		const child = execFile(
			process.execPath,
			[...args, JSON.stringify({ folder, devices, smartctl, timeoutMs, nvmeReader })],
			{
				cwd: '/',
				env: { PATH: '/usr/bin:/bin' },
				timeout: READING_TIMEOUT_MS,
				maxBuffer: OUTPUT_BYTES_MAX,
				killSignal: 'SIGKILL',
			},
			(error, _stdout, stderr) => {
				this.#child = undefined;
				if (error !== null) this.#failed(error, stderr);
				else for (const device of devices) this.#unsaid.delete(device);
				this.#schedule(this.#devices());
			},
		);
		this.#child = child;
		let rest = '';
		child.stdout?.on('data', (text: string) => {
			const lines = `${rest}${text}`.split('\n');
			rest = lines.pop() ?? '';
			for (const line of lines) this.#take(line);
		});
		child.unref();
	}

	/** It could not start, or did not come to its end. */
	#failed({ code, signal }: ExecFileException, stderr: string): void {
		if (this.#isDisposed) return;
		const why = stderr.trim().slice(-STDERR_LENGTH_MAX);
		this.#options.log.warn('the reader of disks failed', { code, signal, why, unread: [...this.#unsaid] });
	}

	#take(line: string): void {
		const said = parse(line);
		if (said === undefined) return;
		const { device, why, hang } = said;
		this.#unsaid.delete(device);
		const nowMs = this.#options.clock.monotonic();
		const former = this.#found.get(device);
		if (former?.hang !== undefined && said.isUnasked === true) {
			this.#found.set(device, { ...former, saidAtMs: nowMs });
			return;
		}
		if (said.health.smart >= SMART.failed && former?.why !== why)
			this.#options.log.warn('the health of a disk could not be read', { device, why, evidence: hang?.evidence });
		this.#found.set(device, keptOf(said, former, nowMs));
	}

	/** Those that are there, and those that left while a process still waits for them. */
	#devices(): readonly string[] {
		const { sysRoot, folder } = this.#options;
		const disks = listFolder(`${sysRoot}/block`).filter(isSmartctlDisk);
		const controllers = listFolder(`${sysRoot}/class/nvme`).filter((name) => /^nvme\d+$/.test(name));
		return [...new Set([...recordedDevices(folder), ...disks, ...controllers])].slice(0, DEVICES_MAX);
	}

	/** It may take its whole time. */
	#isSlow(device: string): boolean {
		const kept = this.#found.get(device);
		return kept?.hang !== undefined || kept?.isLate === true;
	}

	/** What is said of it now may be over soon, and nothing else ends it. */
	#isAskedSoon(device: string): boolean {
		return this.#isSlow(device) || this.#found.get(device)?.isOpenHang === true || this.#unsaid.has(device);
	}

	#dueOf(device: string): number {
		const askedAtMs = this.#askedAtMs.get(device) ?? Number.NEGATIVE_INFINITY;
		return askedAtMs + (this.#isAskedSoon(device) ? SOON_AGAIN_MS : AGAIN_MS);
	}

	/** One that is new is seen in an hour at the latest. */
	#schedule(devices: readonly string[]): void {
		const dues = devices.map((device) => this.#dueOf(device));
		this.#dueAtMs = Math.min(this.#options.clock.monotonic() + AGAIN_MS, ...dues);
	}
}

function keptOf(said: DiskReading, former: Kept | undefined, nowMs: number): Kept {
	const { health, why, hang, isLate = false } = said;
	const isOpenHang = hang !== undefined || (former?.isOpenHang === true && !isAnswer(said));
	const common = { why, hang, isOpenHang, isLate, isAnswer: isAnswer(said), saidAtMs: nowMs };
	const isAsleep = health.smart === SMART.asleep;
	if (former === undefined || !(isAsleep || isLate))
		return { ...common, health, readAtMs: health.smart === SMART.read ? nowMs : undefined };
	const { temperature: _, ...asItFellAsleep } = former.health;
	const values = isAsleep ? asItFellAsleep : former.health;
	return { ...common, health: { ...values, smart: health.smart }, readAtMs: former.readAtMs };
}

/** It is one that can be asked: no virtual disk, nor a path to an NVMe namespace that has several. */
export function hasSmart(disk: string): boolean {
	return !NO_SMART.test(disk);
}

/** A namespace is its controller's: `nvme0n1` is of `nvme0`. */
export function deviceOf(disk: string): string {
	return /^nvme\d+/.exec(disk)?.[0] ?? disk;
}

function parse(line: string): DiskReading | undefined {
	try {
		return JSON.parse(line) as DiskReading;
	} catch {
		return undefined;
	}
}
