import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import type { DiskHang } from './disk-health.ts';
import { DiskMisses } from './disk-misses.ts';
import { PidFile } from './pid-file.ts';
import { describeEvidence, readEvidence } from './process-evidence.ts';

/**
 * The processes that ask disks: one for each, under a deadline of its own, because a disk or controller that is dying may
 * keep whoever asks it in the kernel (state D), past SIGKILL too. Invariants: never two for one disk, and a bounded number
 * that don't end, both also across readers that were killed and restarts of the agent: each process is on record, by pid and
 * start time, in a file of its disk for as long as it may live. One late answer is no hang, since whoever asks a busy disk is
 * in state D as well: that takes a second miss in a row, or a process that the kernel doesn't let go.
 */
export interface DiskChildrenOptions {
	readonly clock: Clock;
	/** Of the records; private. */
	readonly folder: string;
	/** For one disk. */
	readonly timeoutMs: number;
	/** From SIGKILL to giving it up; default 20 s: a disk that is only slow has answered by then. */
	readonly endMs?: number;
	/** Default 8: what they hold of memory (a few MB each, 40 of an NVMe reader) is gone until a reboot. */
	readonly leftMax?: number;
	/** Tests: a process that the kernel doesn't let go. */
	readonly kill?: (pid: number) => void;
}

export type DiskAnswer =
	| { readonly kind: 'ended'; readonly stdout: string }
	| { readonly kind: 'no_program' }
	| { readonly kind: 'late' }
	| { readonly kind: 'hung'; readonly hang: DiskHang }
	| { readonly kind: 'not_asked'; readonly why: string };

const LEFT_MAX = 8;
const OUTPUT_BYTES_MAX = 1024 * 1024;
const END_MS = 20_000;
/** The same, of one that had its chance. */
const LAST_CHANCE_MS = 1000;
const LOOK_AGAIN_MS = 20;
const RECORD = /^(sd[a-z]+|nvme\d+)\.json$/;

export class DiskChildren {
	readonly #options: DiskChildrenOptions;
	readonly #misses: DiskMisses;

	constructor(options: DiskChildrenOptions) {
		this.#options = options;
		this.#misses = new DiskMisses(options.folder);
		mkdirSync(options.folder, { recursive: true, mode: 0o700 });
	}

	/** What the program printed about the disk. One call at a time. Never rejects. */
	async ask(device: string, program: string, args: readonly string[]): Promise<DiskAnswer> {
		try {
			return await this.#ask(device, program, args);
		} catch (error) {
			return { kind: 'not_asked', why: `not asked: ${messageOf(error)}` };
		}
	}

	async #ask(device: string, program: string, args: readonly string[]): Promise<DiskAnswer> {
		const record = this.#recordOf(device);
		const former = await this.#endFormer(device, record);
		if (former !== undefined) return { kind: 'hung', hang: former };
		const { leftMax = LEFT_MAX } = this.#options;
		const left = this.#left();
		if (left >= leftMax)
			return { kind: 'not_asked', why: `not asked: ${left} processes that asked other disks do not end` };
		return await this.#run(device, record, program, args);
	}

	/** Disks whose process still lives, though nobody waits for it. */
	#left(): number {
		return recordedDevices(this.#options.folder).filter((device) => this.#recordOf(device).living() !== undefined)
			.length;
	}

	/** One that was left behind by whoever asked before gets a last chance to end. */
	async #endFormer(device: string, record: PidFile): Promise<DiskHang | undefined> {
		const pid = record.living();
		if (pid === undefined) return undefined;
		this.#kill(pid);
		// Whoever began may have been ended, with its agent, before the disk had its time.
		const { endMs = END_MS } = this.#options;
		if (await this.#isGone(record, this.#misses.has(device) ? LAST_CHANCE_MS : endMs)) return undefined;
		const { sinceMs } = this.#misses.add(device, record.sinceMs() ?? this.#options.clock.now());
		return { sinceMs, evidence: evidenceOf(pid), isLeft: true };
	}

	async #run(device: string, record: PidFile, program: string, args: readonly string[]): Promise<DiskAnswer> {
		const { clock, timeoutMs } = this.#options;
		const { promise: ended, resolve } = Promise.withResolvers<DiskAnswer>();
		const child = execFile(
			program,
			args,
			{ cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, maxBuffer: OUTPUT_BYTES_MAX },
			(error, stdout) => {
				const isMissing = (error as NodeJS.ErrnoException | null)?.code === 'ENOENT';
				resolve(isMissing ? { kind: 'no_program' } : { kind: 'ended', stdout });
			},
		);
		const { pid } = child;
		if (pid === undefined) return await ended;
		const startedMs = clock.now();
		try {
			record.write(pid);
		} catch (error) {
			// One that nobody finds again may not be left behind.
			this.#kill(pid);
			return { kind: 'not_asked', why: `not asked: its process could not be put on record: ${messageOf(error)}` };
		}
		const inTime = new AbortController();
		const late = sleep(clock, timeoutMs, inTime.signal).then(() => undefined);
		const answer = await Promise.race([ended, late]);
		inTime.abort();
		if (answer !== undefined) {
			// On a disk that takes nothing both stay: a process that ended is known by its start time, a miss counts once more.
			quietly(() => record.remove());
			quietly(() => this.#misses.end(device));
			return answer;
		}
		// Before it is killed: afterwards there is nothing to see of one that could be.
		const evidence = evidenceOf(pid);
		this.#kill(pid);
		const isLeft = !(await this.#isGone(record, this.#options.endMs ?? END_MS));
		if (isLeft) {
			for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
			child.unref();
		} else quietly(() => record.remove());
		const { sinceMs, isFirst } = this.#misses.add(device, startedMs);
		return isFirst && !isLeft ? { kind: 'late' } : { kind: 'hung', hang: { sinceMs, evidence, isLeft } };
	}

	async #isGone(record: PidFile, withinMs: number): Promise<boolean> {
		const { clock } = this.#options;
		const untilMs = clock.monotonic() + withinMs;
		for (;;) {
			if (record.living() === undefined) return true;
			if (clock.monotonic() >= untilMs) return false;
			await sleep(clock, LOOK_AGAIN_MS);
		}
	}

	#kill(pid: number): void {
		(this.#options.kill ?? killQuietly)(pid);
	}

	#recordOf(device: string): PidFile {
		return new PidFile(join(this.#options.folder, `${device}.json`));
	}
}

/** Disks that a process is on record for in this folder, which may have ended since. */
export function recordedDevices(folder: string): readonly string[] {
	try {
		return readdirSync(folder).flatMap((name) => RECORD.exec(name)?.[1] ?? []);
	} catch {
		// Nothing was ever read here.
		return [];
	}
}

function evidenceOf(pid: number): string {
	return `process ${pid}: ${describeEvidence(readEvidence(pid))}`;
}

function quietly(remove: () => void): void {
	try {
		remove();
	} catch {
		// The folder can't be written.
	}
}

export function killQuietly(pid: number): void {
	try {
		process.kill(pid, 'SIGKILL');
	} catch {
		// It ended meanwhile.
	}
}
