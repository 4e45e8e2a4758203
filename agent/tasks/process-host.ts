import type { Confinement, DeviceMechanism } from '../platform/device-rules.ts';

/**
 * The port through which the agent runs processes. The process host (agent/process-host) implements it over a unix
 * socket, the simulation in memory: nothing here names a socket, a stream or a descriptor.
 *
 * Invariants of every implementation:
 * - one effect per (task, attempt): a second `launch` of the same attempt starts nothing and answers DUPLICATE;
 * - STARTED is answered, and `started` announced, only after the record of the start is durable; the same for results;
 * - a refused launch left no process, and may be tried again with the same attempt;
 * - output has one offset per task that counts every byte of both streams, also bytes that the cap dropped;
 * - a result stays until `forget`, so an agent that died before it journalled the result finds it again.
 */
export interface TaskKey {
	readonly taskId: string;
	readonly attempt: number;
}

export interface LaunchLimits {
	/** RLIMIT_CPU: seconds of CPU time per process; SIGXCPU at the soft limit. */
	readonly cpuSeconds?: number;
	/** RLIMIT_AS per process. CUDA reserves terabytes of address space: leave it out for GPU work. */
	readonly addressSpaceBytes?: number;
	/** RLIMIT_NOFILE. */
	readonly openFiles?: number;
	/** pids.max of the task's cgroup; elsewhere RLIMIT_NPROC, which counts per user and doesn't bind root. */
	readonly processes?: number;
	/** memory.max of the task's cgroup; elsewhere RLIMIT_DATA, which binds each process alone. */
	readonly memoryBytes?: number;
	/** CPUs, 1.5 is one and a half: cpu.max of the task's cgroup; elsewhere reported as unenforced. */
	readonly cpuQuota?: number;
}

export interface LaunchRequest extends TaskKey {
	readonly argv: readonly string[];
	/** The whole environment: nothing is inherited and nothing added. */
	readonly env: Readonly<Record<string, string>>;
	readonly cwd: string;
	/** The mapped unix user. Absent: the host's own user, with the host's own capabilities (platform tasks only). */
	readonly user?: string;
	readonly umask?: number;
	readonly limits?: LaunchLimits;
	/** Absent: whatever devices the user may open. */
	readonly confine?: Confinement;
	readonly timeoutMs: number;
	/** Between SIGTERM and SIGKILL when the timeout passes. */
	readonly graceMs: number;
	/** Kept output, both streams and their framing (13 bytes a record) together: the first and the last half. */
	readonly outputCapBytes: number;
	/** At most `HostCapabilities.stdinBytesMax`. Absent: /dev/null. */
	readonly stdin?: Uint8Array;
}

export type LaunchRefusal =
	| 'COMMAND_NOT_FOUND'
	| 'COMMAND_NOT_EXECUTABLE'
	| 'CWD_MISSING'
	| 'USER_UNKNOWN'
	| 'USER_SWITCH_UNAVAILABLE'
	| 'ARGUMENTS_TOO_LARGE'
	| 'TOO_MANY_TASKS'
	| 'TOO_MANY_RETAINED'
	| 'SPOOL_FULL'
	| 'DISK_FULL'
	| 'INVALID_REQUEST'
	| 'DEVICE_ISOLATION_UNAVAILABLE'
	| 'SPAWN_FAILED'
	| 'CANCELLED'
	| 'SHUTTING_DOWN';

/** `cgroup2`: the kernel bounds and kills the task as a whole. `rlimit` / `session`: per process, by scanning. */
export interface StartedInfo extends TaskKey {
	readonly pid: number;
	/** Field 22 of /proc/<pid>/stat; with pid and boot id the identity of the process. */
	readonly startTimeTicks: number;
	readonly bootId: string;
	readonly startedAtMs: number;
	readonly limits: 'cgroup2' | 'rlimit';
	readonly containment: 'cgroup2' | 'session';
	/** Limits that were asked for and that this host can't enforce. */
	readonly unenforced: readonly (keyof LaunchLimits)[];
}

export type LaunchOutcome =
	| { readonly kind: 'STARTED'; readonly started: StartedInfo }
	| { readonly kind: 'DUPLICATE'; readonly status: TaskStatus }
	| { readonly kind: 'REFUSED'; readonly reason: LaunchRefusal; readonly message: string };

export type TaskPhase = 'STARTING' | 'RUNNING' | 'ENDED';

export interface TaskStatus extends TaskKey {
	readonly phase: TaskPhase;
	readonly started?: StartedInfo;
	/** Bytes that the task wrote so far: the offset after the last byte. */
	readonly outputBytes: number;
}

export type TaskEnd =
	/** `isUnproven`: 0 as Node says it, which it also says of a leader that a real-time signal ended (waiter.ts). */
	| { readonly kind: 'EXITED'; readonly exitCode: number; readonly isUnproven?: true }
	/** `SIGTERM`...; `SIG35` for a real-time signal. */
	| { readonly kind: 'SIGNALED'; readonly signal: string }
	/** It has ended, and nobody can say how: somebody else of the process host waited for it. */
	| { readonly kind: 'END_UNKNOWN' }
	/** The process host died while the task ran, or while it started (then `started` is absent in the result). */
	| { readonly kind: 'HOST_DIED' }
	| { readonly kind: 'HOST_REBOOTED' };

/** Why the host ended the task; NONE when it ended by itself. DISK: its start could not be recorded. */
export type StopCause = 'NONE' | 'TIMEOUT' | 'CANCEL' | 'SHUTDOWN' | 'DISK';

/**
 * What the task used, with where the number comes from. `cgroup2` is the kernel's account of the task and all of its
 * descendants (the ~1 ms that the host spends launching is in it). `rusage` is the kernel's account of the leader and of
 * the descendants that were waited for, or the last sample where that is more: a lower bound. `sampled` is the last of
 * one sample a second of the task's session: another. `none`: ended before the first sample.
 */
export interface TaskUsage {
	readonly cpuSource: 'cgroup2' | 'rusage' | 'sampled' | 'none';
	readonly cpuUserMs: number;
	readonly cpuSystemMs: number;
	readonly maxRssSource: 'cgroup2' | 'sampled' | 'none';
	readonly maxRssBytes: number;
}

export interface StreamDigest {
	readonly bytes: number;
	/** Hex SHA-256 of those bytes. */
	readonly sha256: string;
}

export interface OutputSummary {
	/** The offset after the last byte. */
	readonly totalBytes: number;
	/** Bytes that the cap (or a full disk) dropped; the gaps are in the records. */
	readonly droppedBytes: number;
	/** Everything that the task wrote, also what was dropped; absent when the host died, which lost the running hash. */
	readonly written?: { readonly stdout: StreamDigest; readonly stderr: StreamDigest };
	/** What is kept: what a reader who attaches at 0 receives, stream by stream. */
	readonly kept: { readonly stdout: StreamDigest; readonly stderr: StreamDigest };
}

export interface TaskResult extends TaskKey {
	readonly end: TaskEnd;
	readonly stoppedBy: StopCause;
	/** Absent when the host died between the intent and the record of the start: it may have started. */
	readonly started?: StartedInfo;
	readonly endedAtMs: number;
	readonly usage: TaskUsage;
	readonly output: OutputSummary;
}

export type ResultOutcome =
	| { readonly kind: 'ENDED'; readonly result: TaskResult }
	| { readonly kind: 'NOT_ENDED'; readonly status: TaskStatus }
	| { readonly kind: 'UNKNOWN' };

export type OutputRecord =
	| {
			readonly kind: 'DATA';
			readonly stream: 'stdout' | 'stderr';
			readonly offset: number;
			readonly bytes: Uint8Array;
	  }
	/** `droppedBytes` from `offset` on are gone. */
	| { readonly kind: 'GAP'; readonly offset: number; readonly droppedBytes: number }
	/** Last record of an ended task; `offset` is its total. */
	| { readonly kind: 'END'; readonly offset: number };

export type CancelOutcome = 'STOPPING' | 'ALREADY_ENDED' | 'UNKNOWN';
export type ForgetOutcome = 'FORGOTTEN' | 'NOT_ENDED' | 'UNKNOWN';

export type HostEvent =
	| { readonly kind: 'STARTED'; readonly started: StartedInfo }
	| { readonly kind: 'ENDED'; readonly result: TaskResult };

export interface HostCapabilities {
	readonly limits: 'cgroup2' | 'rlimit';
	readonly containment: 'cgroup2' | 'session';
	/** What holds tasks to `confine`; absent in hosts of older agents, which don't know it. */
	readonly devices?: DeviceMechanism;
	/** Whether tasks can run as another user than the host's. */
	readonly userSwitch: boolean;
	readonly runningMax: number;
	readonly retainedMax: number;
	readonly stdinBytesMax: number;
	readonly outputCapBytesMax: number;
}

export interface HostClosed {
	/** LOST: the connection ended without our asking; find out whether the host lives, and reap if it doesn't. */
	readonly kind: 'CLOSED_BY_US' | 'LOST';
	readonly message: string;
}

export interface ProcessHost {
	readonly capabilities: HostCapabilities;
	/** Resolves once this connection to the host is over; no call works after it. */
	readonly closed: Promise<HostClosed>;
	launch(request: LaunchRequest): Promise<LaunchOutcome>;
	/**
	 * The task's output from `fromOffset`, live, until END. The host reads ahead by a bounded window only: a slow consumer
	 * holds up neither the task nor others. Whoever leaves is gone at once, also while the task is silent. Throws NOT_FOUND
	 * for an unknown attempt, UNAVAILABLE when the host is lost.
	 */
	attach(key: TaskKey, fromOffset: number): AsyncIterable<OutputRecord>;
	/** SIGTERM to the whole task now, SIGKILL after `graceMs`. Answers when the signal was sent, not when it worked. */
	cancel(key: TaskKey, graceMs: number): Promise<CancelOutcome>;
	list(): Promise<readonly TaskStatus[]>;
	result(key: TaskKey): Promise<ResultOutcome>;
	/** Drops result and output, once the caller has them durably. */
	forget(key: TaskKey): Promise<ForgetOutcome>;
	/** The devices of every task that is confined, also of those that run; rejects when they could not be set for all. */
	allowDevices(allow: readonly string[]): Promise<void>;
	/** Events from now on (call `list` after it to miss nothing). Returns the unsubscriber. */
	subscribe(listener: (event: HostEvent) => void): () => void;
	/** Ends this connection; tasks go on. */
	close(): Promise<void>;
}
