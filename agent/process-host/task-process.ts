/**
 * One running task: its process, its pipes, its timeout and its end. The task ends when its leader ends: whatever else
 * of it still runs is killed then (SIGKILL), and what is in the pipes is read on until they close, for at most
 * `drainMs`. A stop is SIGTERM to everybody in the session, then after the grace SIGKILL, repeated until the leader is
 * gone: a leader in uninterruptible sleep (a wedged driver) stays RUNNING, because it is.
 */
import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Clock, Timer } from '../../kit/clock.ts';
import type { LaunchRequest, StopCause, TaskEnd, TaskUsage } from '../tasks/process-host.ts';
import type { ExecChain } from './exec-chain.ts';
import { type OpenPipe, openForInput, openForOutput } from './fifo.ts';
import { drainMs, killAgainMs } from './limits.ts';
import { holdsFile, listProcesses, readStat, signal, ticksPerSecond } from './proc.ts';
import type { StreamName } from './protocol.ts';
import type { TaskBox } from './task-box.ts';
import type { ChildEnd, Waiter } from './waiter.ts';

export interface TaskParts {
	readonly clock: Clock;
	readonly request: LaunchRequest;
	readonly chain: ExecChain;
	readonly box: TaskBox;
	/** Two fresh FIFOs, three with stdin. */
	readonly fifos: readonly string[];
	readonly onOutput: (stream: StreamName, chunk: Buffer) => void;
	/** Asked in the turn of the fork; throws when the task must not start after all. */
	readonly assertWanted: () => void;
	readonly waiter: Waiter;
}

export interface TaskEnded {
	readonly end: TaskEnd;
	readonly stoppedBy: StopCause;
	readonly usage: TaskUsage;
	/** Whether descendants outside the process group may be left: then somebody has to look for them. */
	readonly mayHaveLeft: boolean;
}

/** What a scan of /proc found of one session. */
export interface SessionSample {
	readonly cpuUserTicks: number;
	readonly cpuSystemTicks: number;
	readonly rssBytes: number;
}

interface Pipes {
	readonly stdout: OpenPipe;
	readonly stderr: OpenPipe;
	readonly stdin: OpenPipe | undefined;
}

function openPipes(request: LaunchRequest, fifos: readonly string[]): Pipes {
	const [stdout = '', stderr = '', stdin = ''] = fifos;
	return {
		stdout: openForOutput(stdout),
		stderr: openForOutput(stderr),
		stdin: request.stdin === undefined ? undefined : openForInput(stdin),
	};
}

interface Forked {
	readonly pid: number | undefined;
	/** Why there is no process, when there is none. */
	readonly failure: Promise<unknown>;
	/** Never, when there is none. */
	readonly ended: Promise<ChildEnd>;
}

/** Forks inside the box; the child's ends of the pipes are closed here whatever happens. */
async function fork(parts: TaskParts, pipes: Pipes): Promise<Forked> {
	const { request, chain, box, waiter } = parts;
	let pid: number | undefined;
	try {
		return await box.bear(() => {
			parts.assertWanted();
			// Ours for the length of a fork; nothing else runs in this turn. 022 whatever the host was started with.
			const umask = process.umask(request.umask ?? 0o022);
			try {
				const child = spawn(chain.file, [...chain.args], {
					cwd: '/',
					env: { ...chain.env },
					detached: true,
					stdio: [pipes.stdin?.readFd ?? 'ignore', pipes.stdout.writeFd, pipes.stderr.writeFd],
				});
				pid = child.pid;
				const ended = pid === undefined ? new Promise<never>(() => undefined) : waiter.adopt(child);
				return { pid, ended, failure: new Promise((resolve) => child.on('error', resolve)) };
			} finally {
				process.umask(umask);
			}
		});
	} catch (error) {
		// The box failed after the fork: a task without its bounds must not run.
		if (pid !== undefined) signal(pid, 'SIGKILL');
		throw error;
	} finally {
		closeSync(pipes.stdout.writeFd);
		closeSync(pipes.stderr.writeFd);
		if (pipes.stdin !== undefined) closeSync(pipes.stdin.readFd);
	}
}

function closeHostEnds(pipes: Pipes): void {
	closeSync(pipes.stdout.readFd);
	closeSync(pipes.stderr.readFd);
	if (pipes.stdin !== undefined) closeSync(pipes.stdin.writeFd);
}

/** Starts the task; rejects when there is no process. */
export async function startTask(parts: TaskParts): Promise<TaskProcess> {
	const pipes = openPipes(parts.request, parts.fifos);
	let forked: Forked;
	try {
		forked = await fork(parts, pipes);
	} catch (error) {
		closeHostEnds(pipes);
		throw error;
	}
	const { pid, failure, ended } = forked;
	// Nobody waits for the child before the event loop turns, so its entry in /proc is still there, if only as a zombie.
	const stat = pid === undefined ? undefined : readStat(pid);
	if (pid === undefined || stat === undefined) {
		closeHostEnds(pipes);
		if (pid === undefined) throw await failure;
		signal(-pid, 'SIGKILL');
		throw new Error('/proc does not show the process that was started');
	}
	return new TaskProcess(parts, ended, pid, stat.startTimeTicks, pipes);
}

export class TaskProcess {
	readonly pid: number;
	readonly startTimeTicks: number;
	readonly ended: Promise<TaskEnded>;
	readonly #clock: Clock;
	readonly #box: TaskBox;
	readonly #sockets: readonly Socket[];
	readonly #fifoPaths: ReadonlySet<string>;
	readonly #drained: Promise<unknown>;
	#timeout: Timer;
	#killTimer: Timer | undefined;
	#killDueMs = Number.POSITIVE_INFINITY;
	#stoppedBy: StopCause = 'NONE';
	#hasExited = false;
	#sampled: SessionSample | undefined;
	#waited: ChildEnd['cpu'];

	constructor(parts: TaskParts, ended: Promise<ChildEnd>, pid: number, startTimeTicks: number, pipes: Pipes) {
		this.pid = pid;
		this.startTimeTicks = startTimeTicks;
		this.#clock = parts.clock;
		this.#box = parts.box;
		this.#fifoPaths = new Set([pipes.stdout.path, pipes.stderr.path].map((path) => `${path} (deleted)`));
		const read = (stream: StreamName, pipe: OpenPipe) => {
			const socket = new Socket({ fd: pipe.readFd, readable: true, writable: false });
			socket.on('data', (chunk: Buffer) => parts.onOutput(stream, chunk));
			socket.on('error', () => socket.destroy());
			return socket;
		};
		this.#sockets = [read('stdout', pipes.stdout), read('stderr', pipes.stderr)];
		this.#drained = Promise.all(
			this.#sockets.map((socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))),
		);
		if (pipes.stdin !== undefined) this.#feed(pipes.stdin, parts.request.stdin ?? new Uint8Array(), ended);
		const { timeoutMs, graceMs } = parts.request;
		this.#timeout = this.#armTimeout(parts.clock.monotonic() + timeoutMs, graceMs);
		this.ended = ended.then(
			({ end, cpu }) => this.#finish(end, cpu),
			() => this.#finish({ kind: 'END_UNKNOWN' }),
		);
	}

	/** Idempotent; the first cause stays, the earliest deadline wins. */
	stop(cause: StopCause, graceMs: number): void {
		if (this.#hasExited) return;
		if (this.#stoppedBy === 'NONE') {
			this.#stoppedBy = cause;
			signal(-this.pid, 'SIGTERM');
			for (const member of listProcesses()) {
				if (member.sessionId === this.pid && member.groupId !== this.pid) signal(member.pid, 'SIGTERM');
			}
			// A stopped process takes SIGTERM only when it goes on.
			signal(-this.pid, 'SIGCONT');
		}
		const dueMs = this.#clock.monotonic() + graceMs;
		if (dueMs >= this.#killDueMs) return;
		this.#killDueMs = dueMs;
		this.#killTimer?.cancel();
		this.#killTimer = this.#clock.setTimer(() => this.#killAll(), graceMs);
	}

	/** A timer may fire before its time: those of Node end within 24.8 days, and a task may run for 30. */
	#armTimeout(dueMs: number, graceMs: number): Timer {
		const fire = () => {
			if (this.#clock.monotonic() < dueMs) this.#timeout = this.#armTimeout(dueMs, graceMs);
			else this.stop('TIMEOUT', graceMs);
		};
		return this.#clock.setTimer(fire, dueMs - this.#clock.monotonic());
	}

	/** The larger of samples: processes that ended since take their time with them unless somebody waited for them. */
	sample(found: SessionSample): void {
		const last = this.#sampled;
		this.#sampled = {
			cpuUserTicks: Math.max(last?.cpuUserTicks ?? 0, found.cpuUserTicks),
			cpuSystemTicks: Math.max(last?.cpuSystemTicks ?? 0, found.cpuSystemTicks),
			rssBytes: Math.max(last?.rssBytes ?? 0, found.rssBytes),
		};
	}

	#feed(pipe: OpenPipe, bytes: Uint8Array, ended: Promise<unknown>): void {
		const socket = new Socket({ fd: pipe.writeFd, readable: false, writable: true });
		// A task that doesn't read its stdin is no error.
		socket.on('error', () => socket.destroy());
		socket.end(bytes);
		const stop = () => socket.destroy();
		ended.then(stop, stop);
	}

	#killAll(): void {
		if (this.#hasExited) return;
		this.#box.kill();
		signal(-this.pid, 'SIGKILL');
		this.#hunt(false);
		this.#killTimer = this.#clock.setTimer(() => this.#killAll(), killAgainMs);
	}

	/** SIGKILL to whoever is in the session, and with `byPipes` to whoever holds a pipe of the task; how many there were. */
	#hunt(byPipes: boolean): number {
		let found = 0;
		for (const member of listProcesses()) {
			if (member.pid === process.pid || member.state === 'Z' || member.state === 'X') continue;
			const isOurs =
				member.sessionId === this.pid || (byPipes && holdsFile(member.pid, (path) => this.#fifoPaths.has(path)));
			if (isOurs && signal(member.pid, 'SIGKILL')) found += 1;
		}
		return found;
	}

	async #finish(end: TaskEnd, cpu?: ChildEnd['cpu']): Promise<TaskEnded> {
		this.#hasExited = true;
		this.#waited = cpu;
		this.#timeout.cancel();
		this.#killTimer?.cancel();
		// In the turn in which the leader was waited for: its number can't be somebody else's group yet.
		signal(-this.pid, 'SIGKILL');
		const isContained = this.#box.kill();
		if (!isContained && this.#stoppedBy !== 'NONE') await this.#huntDown();
		if (!(await this.#drainedWithin(drainMs)) && !isContained) await this.#huntDown();
		for (const socket of this.#sockets) socket.destroy();
		const usage = this.#usage();
		this.#box.remove();
		return { end, stoppedBy: this.#stoppedBy, usage, mayHaveLeft: !isContained && this.#stoppedBy === 'NONE' };
	}

	/** Rounds, because a process may fork while it is looked for. */
	async #huntDown(): Promise<void> {
		for (let round = 0; round < 50 && this.#hunt(true) > 0; round += 1) await this.#pause(20);
	}

	#pause(delayMs: number): Promise<void> {
		return new Promise((resolve) => this.#clock.setTimer(resolve, delayMs));
	}

	#drainedWithin(delayMs: number): Promise<boolean> {
		return new Promise((resolve) => {
			const timer = this.#clock.setTimer(() => resolve(false), delayMs);
			this.#drained.then(() => {
				timer.cancel();
				resolve(true);
			});
		});
	}

	#usage(): TaskUsage {
		const box = this.#box.usage();
		const sampled = this.#sampled;
		const sampledSource = sampled === undefined ? 'none' : 'sampled';
		const tickMs = 1000 / ticksPerSecond;
		const cpu = (of: 'userMs' | 'systemMs', ticks = 0) => Math.max(this.#waited?.[of] ?? 0, ticks * tickMs);
		const cpuSource = this.#waited === undefined ? sampledSource : 'rusage';
		return {
			cpuSource: box === undefined ? cpuSource : 'cgroup2',
			cpuUserMs: box?.cpuUserMs ?? cpu('userMs', sampled?.cpuUserTicks),
			cpuSystemMs: box?.cpuSystemMs ?? cpu('systemMs', sampled?.cpuSystemTicks),
			maxRssSource: box?.maxRssBytes === undefined ? sampledSource : 'cgroup2',
			maxRssBytes: box?.maxRssBytes ?? sampled?.rssBytes ?? 0,
		};
	}
}
