import { readFileSync } from 'node:fs';

/** USER_HZ of every Linux that Node runs on: /proc counts CPU time in it. */
const TICK_US = 10_000;

/** CPU time of a process and of the children that it waited for, in µs; 0 once it has ended. */
export function cpuUsOf(pid: number): number {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
		// proc(5): utime, stime, cutime, cstime are fields 14 to 17; the name before may hold anything.
		const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
		return [14, 15, 16, 17].reduce((sum, field) => sum + Number(fields[field - 3]), 0) * TICK_US;
	} catch {
		return 0;
	}
}

/** What each process spent between two looks, per task: names of results. */
export function cpuPerTask(
	before: Readonly<Record<string, number>>,
	after: Readonly<Record<string, number>>,
	tasks: number,
): Record<string, number> {
	const entries = Object.keys(after).map((name) => [
		`${name}CpuUsPerTask`,
		((after[name] ?? 0) - (before[name] ?? 0)) / tasks,
	]);
	return Object.fromEntries(entries);
}
