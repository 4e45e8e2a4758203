/** What a new host does with the tasks of the one before: end what still runs, and say what became of each. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../kit/clock.ts';
import type { TaskResult } from '../tasks/process-host.ts';
import { reapUnlocked } from './reap.ts';
import { summarizeKept } from './spool.ts';
import { readState, spoolName, type TaskState } from './state.ts';

/** Nothing was measured: the number died with the host. */
const UNKNOWN_USAGE = {
	cpuSource: 'none',
	cpuUserMs: 0,
	cpuSystemMs: 0,
	maxRssSource: 'none',
	maxRssBytes: 0,
} as const;

function lostResult(task: TaskState, spoolFolder: string, bootId: string, nowMs: number): TaskResult {
	const { intent, started } = task;
	return {
		taskId: intent.taskId,
		attempt: intent.attempt,
		end: { kind: intent.bootId === bootId ? 'HOST_DIED' : 'HOST_REBOOTED' },
		stoppedBy: 'NONE',
		...(started === undefined ? {} : { started }),
		endedAtMs: nowMs,
		usage: UNKNOWN_USAGE,
		output: summarizeKept(spoolFolder),
	};
}

/** Reaps, and returns every task that isn't forgotten, each with its result. The caller holds the lock. */
export async function recover(directory: string, clock: Clock, bootId: string, log: (line: string) => void) {
	const reaped = await reapUnlocked({ directory, clock });
	if (reaped.kind === 'REAPED' && reaped.killed + reaped.remaining > 0) {
		log(`reaped ${reaped.killed} processes of the host before; ${reaped.remaining} do not go away`);
	}
	const { tasks, damagedLines } = readState(directory);
	if (damagedLines > 1) log(`${damagedLines} records are damaged: the disk lost what it had promised`);
	const recovered = new Map<string, TaskState>();
	for (const [id, task] of tasks) {
		const result = task.result ?? lostResult(task, join(directory, spoolName, id), bootId, clock.now());
		recovered.set(id, { ...task, result });
	}
	const spool = join(directory, spoolName);
	for (const id of readdirSync(spool))
		if (!recovered.has(id)) rmSync(join(spool, id), { recursive: true, force: true });
	return recovered;
}
