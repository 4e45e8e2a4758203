import { assert } from '../../kit/assert.ts';
import type { Clock } from '../../kit/clock.ts';
import { listProcesses, signal } from '../process-host/proc.ts';
import type { TaskBox } from '../process-host/task-box.ts';
import { hangUpGraceMs } from './limits.ts';

/**
 * Ends every process of a session that we lead: SIGHUP, as when a line drops, and SIGKILL after a grace to whoever
 * stays. `leader` must not have been waited for for longer than a sweep, or its number may be another's: the caller
 * calls at once when the leader ends.
 */
export function endSession(clock: Clock, leader: number, box: TaskBox): void {
	for (const pid of membersOf(leader)) {
		signal(pid, 'SIGHUP');
		// A stopped job can't act on it.
		signal(pid, 'SIGCONT');
	}
	clock.setTimer(() => killSession(leader, box), hangUpGraceMs);
}

export function killSession(leader: number, box: TaskBox): void {
	if (box.kill()) return;
	for (const pid of membersOf(leader)) signal(pid, 'SIGKILL');
}

function membersOf(leader: number): readonly number[] {
	// Kernel threads, and whoever came from another PID namespace, have session 0.
	assert(leader > 1, 'a session that we lead has a number of its own');
	return listProcesses()
		.filter((stat) => stat.sessionId === leader && stat.state !== 'Z')
		.map((stat) => stat.pid);
}
