/**
 * Periodic looks at /proc, one scan for all tasks: usage samples of running ones, and leftovers of those that ended by
 * themselves where no cgroup contains them (a child with a process group of its own and its output redirected is in
 * nobody's group and holds nobody's pipe, but is still in the task's session).
 */
import type { Clock, Timer } from '../../kit/clock.ts';
import { sweepMs } from './limits.ts';
import { listProcesses, signal } from './proc.ts';
import type { SessionSample, TaskProcess } from './task-process.ts';

export function sampleSessions(tasks: Iterable<TaskProcess>): void {
	const sessions = new Map<number, SessionSample>();
	for (const stat of listProcesses()) {
		const sum = sessions.get(stat.sessionId);
		sessions.set(stat.sessionId, {
			cpuUserTicks: stat.userTicks + (sum?.cpuUserTicks ?? 0),
			cpuSystemTicks: stat.systemTicks + (sum?.cpuSystemTicks ?? 0),
			rssBytes: stat.rssBytes + (sum?.rssBytes ?? 0),
		});
	}
	for (const task of tasks) {
		const found = sessions.get(task.pid);
		if (found !== undefined) task.sample(found);
	}
}

export class Sweeper {
	readonly #clock: Clock;
	#sessions = new Set<number>();
	#timer: Timer | undefined;

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	/** `session` is the pid of a leader that was just waited for. */
	add(session: number): void {
		this.#sessions.add(session);
		this.#timer ??= this.#clock.setTimer(() => this.#sweep(), sweepMs);
	}

	#sweep(): void {
		this.#timer = undefined;
		const sessions = this.#sessions;
		this.#sessions = new Set();
		const processes = listProcesses();
		// A process that has the number of the leader now began after it: then the number of the session is reused too.
		for (const stat of processes) sessions.delete(stat.pid);
		for (const stat of processes) {
			if (!sessions.has(stat.sessionId) || stat.state === 'Z') continue;
			// Once more: it may have forked while we looked.
			if (signal(stat.pid, 'SIGKILL')) this.add(stat.sessionId);
		}
	}
}
