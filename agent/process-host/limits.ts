/** Every bound of the process host in one place: the value, its unit in the name, and why. */

/** A frame of the socket: a launch with 2 MiB of argv and env plus base64 stdin must fit, and a list of all retained tasks. */
export const frameBytesMax = 8 << 20;
/** Data of one output record; a read of a pipe gives at most this. */
export const recordBytesMax = 64 << 10;
/** Output sent ahead of a consumer's credit: two full pipes, so that a fast one never waits. */
export const attachWindowBytes = 256 << 10;
/** What a record costs of the window beyond its bytes, so that one-byte records are bounded in number too. */
export const recordOverheadBytes = 64;
/** Agent, an older agent that drains, a person with a debugger; more is a leak. */
export const connectionsMax = 16;
/** Unanswered requests of one connection. */
export const requestsInFlightMax = 1024;
/** Attached readers of one connection. */
export const attachmentsMax = 1024;
/** A connection whose unread answers and events pass this is cut: the client reconnects and lists. */
export const unsentBytesMax = 32 << 20;

/** The kernel's own bounds: MAX_ARG_STRLEN, and a quarter of an 8 MiB stack for all strings and pointers. */
export const argumentBytesMax = 128 << 10;
export const argumentsBytesMax = 2 << 20;

export const stdinBytesMax = 1 << 20;
export const outputCapBytesMin = 4 << 10;
export const outputCapBytesMax = 1 << 30;
export const timeoutMsMax = 30 * 86_400_000;
/** As long as tasks.proto lets a cancel be: one that is refused here stops nothing. */
export const graceMsMax = 3_600_000;

/** How long after its leader's exit a task's pipes are read on, when somebody outside its group still holds them. */
export const drainMs = 2_000;
/** Leftovers of tasks that ended by themselves are looked for at most this often: one scan serves all of them. */
export const sweepMs = 250;
/** Usage is sampled, and the sign of life written, this often. */
export const sampleMs = 1_000;
/** Between rounds of SIGKILL at a task that does not go away (a process in uninterruptible sleep). */
export const killAgainMs = 200;
/** Between attempts to write a record while the disk refuses. */
export const journalRetryMs = 500;
/** The journal is rewritten when it is larger than this and than four times its live content. */
export const journalBytesMax = 4 << 20;

/** Settings of one host, in `config.json` of its directory. */
export interface HostConfig {
	/** 512 tasks are 1024 pipes and about 1 MB of records; more work belongs in a queue. */
	readonly runningMax: number;
	/** Ended tasks that nobody forgot; beyond it launches are refused, results are never dropped. */
	readonly retainedMax: number;
	/** Spool of all tasks together: what is kept plus what running tasks may still keep. */
	readonly spoolBytesMax: number;
	/** Launches are refused when less is free, so that records and results still find room. */
	readonly diskFloorBytes: number;
	/**
	 * `auto`: a cgroup of our own when we stand in the root cgroup of a writable cgroup v2 mount (containers, plain init);
	 * `delegated`: our own cgroup is ours (systemd `Delegate=yes`); `off`: sessions and rlimits only.
	 */
	readonly cgroup: 'auto' | 'delegated' | 'off';
}

export const defaultHostConfig: HostConfig = Object.freeze({
	runningMax: 512,
	retainedMax: 4096,
	spoolBytesMax: 8 * 2 ** 30,
	diskFloorBytes: 256 << 20,
	cgroup: 'auto',
});
