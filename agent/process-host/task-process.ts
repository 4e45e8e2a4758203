/**
 * One running task: its process, its pipes, its timeout and its end. The task ends when its leader ends: whatever else
 * of it still runs is killed then (SIGKILL), and what is in the pipes is read on until they close, for at most
 * `drainMs`. A stop is SIGTERM to everybody in the session, then after the grace SIGKILL, repeated until the leader is
 * gone: a leader in uninterruptible sleep (a wedged driver) stays RUNNING, because it is.
 */
import { type ChildProcess, spawn } from 'node:child_process';
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

const FIRST_REAL_TIME_SIGNAL = 32;
/** Looks at a leader between its last file and its end: a few microseconds, unless the machine is overloaded. */
const LOOKS_MAX = 200;

export interface TaskParts {
	readonly clock: Clock;
	readonly request: LaunchRequest;
	readonly chain: ExecChain;
	readonly box: TaskBox;
	/** Two fresh FIFOs, three with stdin. */
	readonly fifos: readonly string[];
	readonly onOutput: (stream: StreamName, chunk: Buffer) => void;
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

/** Forks inside the box; the child's ends of the pipes are closed here whatever happens. */
function fork(parts: TaskParts, pipes: Pipes): ChildProcess {
	const { request, chain, box } = parts;
	let child: ChildProcess | undefined;
	// Ours for the length of a fork; nothing else runs in this turn. 022 whatever the host was started with.
	const umask = process.umask(request.umask ?? 0o022);
	try {
		return box.bear(() => {
			child = spawn(chain.file, [...chain.args], {
				cwd: request.cwd,
				env: { ...chain.env },
				detached: true,
				stdio: [pipes.stdin?.readFd ?? 'ignore', pipes.stdout.writeFd, pipes.stderr.writeFd],
			});
			return child;
		});
	} catch (error) {
		// The box failed after the fork: a task without its bounds must not run.
		child?.kill('SIGKILL');
		throw error;
	} finally {
		process.umask(umask);
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
	let child: ChildProcess;
	try {
		child = fork(parts, pipes);
	} catch (error) {
		closeHostEnds(pipes);
		throw error;
	}
	const pid = child.pid;
	// Nobody waits for the child before the event loop turns, so its entry in /proc is still there, if only as a zombie.
	const stat = pid === undefined ? undefined : readStat(pid);
	if (pid === undefined || stat === undefined) {
		closeHostEnds(pipes);
		if (pid === undefined) throw await new Promise((resolve) => child.once('error', resolve));
		signal(-pid, 'SIGKILL');
		throw new Error('/proc does not show the process that was started');
	}
	return new TaskProcess(parts, child, pid, stat.startTimeTicks, pipes);
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
	readonly #timeout: Timer;
	#killTimer: Timer | undefined;
	#killDueMs = Number.POSITIVE_INFINITY;
	#stoppedBy: StopCause = 'NONE';
	#hasExited = false;
	#sampled: SessionSample | undefined;
	#openPipes = 2;
	#realTimeSignal: number | undefined;

	constructor(parts: TaskParts, child: ChildProcess, pid: number, startTimeTicks: number, pipes: Pipes) {
		this.pid = pid;
		this.startTimeTicks = startTimeTicks;
		this.#clock = parts.clock;
		this.#box = parts.box;
		this.#fifoPaths = new Set([pipes.stdout.path, pipes.stderr.path].map((path) => `${path} (deleted)`));
		const read = (stream: StreamName, pipe: OpenPipe) => {
			const socket = new Socket({ fd: pipe.readFd, readable: true, writable: false });
			socket.on('data', (chunk: Buffer) => parts.onOutput(stream, chunk));
			socket.on('error', () => socket.destroy());
			socket.once('end', () => {
				this.#openPipes -= 1;
				if (this.#openPipes === 0) this.#peekAtEnd();
			});
			return socket;
		};
		this.#sockets = [read('stdout', pipes.stdout), read('stderr', pipes.stderr)];
		this.#drained = Promise.all(
			this.#sockets.map((socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))),
		);
		if (pipes.stdin !== undefined) this.#feed(pipes.stdin, parts.request.stdin ?? new Uint8Array(), child);
		const { timeoutMs, graceMs } = parts.request;
		this.#timeout = parts.clock.setTimer(() => this.stop('TIMEOUT', graceMs), timeoutMs);
		this.ended = new Promise((resolve) => {
			child.once('exit', (code, name) => {
				resolve(this.#finish(this.#endOf(code, name)));
			});
		});
		// After a successful fork only `kill` emits it, and we don't use that.
		child.on('error', () => undefined);
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

	/** The larger of samples: processes that ended since take their time with them unless somebody waited for them. */
	sample(found: SessionSample): void {
		const last = this.#sampled;
		this.#sampled = {
			cpuUserTicks: Math.max(last?.cpuUserTicks ?? 0, found.cpuUserTicks),
			cpuSystemTicks: Math.max(last?.cpuSystemTicks ?? 0, found.cpuSystemTicks),
			rssBytes: Math.max(last?.rssBytes ?? 0, found.rssBytes),
		};
	}

	/**
	 * Node has no names for real-time signals and reports a process that one ended as exit code 0. The kernel closes a
	 * dying leader's pipes just before it becomes a zombie, and libuv waits for it last in a turn: here is the moment in
	 * which /proc still tells. Not seen: a leader whose pipes were closed or are held by others, and one that ends in the
	 * same turn as others (libuv then waits for all of them at the first one's signal).
	 */
	#peekAtEnd(): void {
		for (let look = 0; look < LOOKS_MAX && !this.#hasExited; look += 1) {
			const stat = readStat(this.pid);
			if (stat === undefined || stat.startTimeTicks !== this.startTimeTicks) return;
			if (stat.state !== 'Z') {
				if (stat.isExiting) continue;
				return;
			}
			const signalNumber = stat.waitStatus & 0x7f;
			if (signalNumber >= FIRST_REAL_TIME_SIGNAL) this.#realTimeSignal = signalNumber;
			return;
		}
	}

	#endOf(code: number | null, name: NodeJS.Signals | null): TaskEnd {
		if (name !== null) return { kind: 'SIGNALED', signal: name };
		if (this.#realTimeSignal !== undefined) return { kind: 'SIGNALED', signal: `SIG${this.#realTimeSignal}` };
		return { kind: 'EXITED', exitCode: code ?? 0 };
	}

	#feed(pipe: OpenPipe, bytes: Uint8Array, child: ChildProcess): void {
		const socket = new Socket({ fd: pipe.writeFd, readable: false, writable: true });
		// A task that doesn't read its stdin is no error.
		socket.on('error', () => socket.destroy());
		socket.end(bytes);
		child.once('exit', () => socket.destroy());
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

	async #finish(end: TaskEnd): Promise<TaskEnded> {
		this.#hasExited = true;
		this.#timeout.cancel();
		this.#killTimer?.cancel();
		// In the turn in which the leader was waited for: its number can't be somebody else's group yet.
		signal(-this.pid, 'SIGKILL');
		const isContained = this.#box.kill();
		if (!isContained && this.#stoppedBy !== 'NONE') await this.#huntDown();
		if (!(await this.#drainedWithin(drainMs)) && !isContained) await this.#huntDown();
		for (const socket of this.#sockets) socket.destroy();
		const usage = this.#usage();
		this.#removeBox();
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

	#removeBox(triesLeft = 100): void {
		if (this.#box.remove() || triesLeft === 0) return;
		this.#clock.setTimer(() => this.#removeBox(triesLeft - 1), 20);
	}

	#usage(): TaskUsage {
		const box = this.#box.usage();
		const sampled = this.#sampled;
		const sampledSource = sampled === undefined ? 'none' : 'sampled';
		const tickMs = 1000 / ticksPerSecond;
		return {
			cpuSource: box === undefined ? sampledSource : 'cgroup2',
			cpuUserMs: box?.cpuUserMs ?? (sampled?.cpuUserTicks ?? 0) * tickMs,
			cpuSystemMs: box?.cpuSystemMs ?? (sampled?.cpuSystemTicks ?? 0) * tickMs,
			maxRssSource: box?.maxRssBytes === undefined ? sampledSource : 'cgroup2',
			maxRssBytes: box?.maxRssBytes ?? sampled?.rssBytes ?? 0,
		};
	}
}
