/**
 * The records of a state directory, and what they say together. `records.ndjson` holds one record a line behind its
 * CRC-32; the last line may be torn by a crash and then never happened. Read by the host when it starts, by `reap`, and
 * by anybody who wants to know what became of the tasks of a dead host: the directory alone tells.
 *
 *   INTENT    durable before the process is spawned     (alone: it may have started)
 *   REFUSED   the intent had no effect
 *   STARTED   durable before anybody is told            (alone: it runs, or died with its host)
 *   ENDED     durable before anybody is told
 *   FORGOTTEN the caller has the result
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { StartedInfo, TaskKey, TaskResult } from '../tasks/process-host.ts';

export interface TaskIntent extends TaskKey {
	readonly bootId: string;
	readonly atMs: number;
	readonly outputCapBytes: number;
	/** The task's own cgroup, made before the spawn: whoever is in it belongs to the task. */
	readonly cgroup?: string;
}

export type StateRecord =
	| { readonly kind: 'INTENT'; readonly intent: TaskIntent }
	| { readonly kind: 'REFUSED'; readonly key: TaskKey }
	| { readonly kind: 'STARTED'; readonly started: StartedInfo }
	| { readonly kind: 'ENDED'; readonly result: TaskResult }
	| { readonly kind: 'FORGOTTEN'; readonly key: TaskKey };

export interface TaskState {
	readonly intent: TaskIntent;
	readonly started?: StartedInfo;
	readonly result?: TaskResult;
}

export interface DirectoryState {
	/** By `keyOf`, in order of their intents. */
	readonly tasks: Map<string, TaskState>;
	/** Lines after the first damaged one: 1 torn line is a crash, more is a damaged disk. */
	readonly damagedLines: number;
}

export const journalName = 'records.ndjson';
export const spoolName = 'spool';
export const fifoName = 'fifo';
export const socketName = 'socket';
export const aliveName = 'alive';
export const configName = 'config.json';
export const logName = 'host.log';
/** Exit code of a host that found another one on its directory (EX_TEMPFAIL). */
export const exitHeld = 75;

export function keyOf(key: TaskKey): string {
	return `${key.taskId}.${key.attempt}`;
}

export function encodeRecord(record: StateRecord): string {
	const json = JSON.stringify(record);
	return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

function decodeLine(line: string): StateRecord | undefined {
	const json = line.slice(9);
	if (line[8] !== ' ' || Number.parseInt(line.slice(0, 8), 16) !== crc32(json)) return undefined;
	// The checksum says that we wrote it, so its shape is ours.
	return JSON.parse(json) as StateRecord;
}

export function applyRecord(tasks: Map<string, TaskState>, record: StateRecord): void {
	switch (record.kind) {
		case 'INTENT':
			tasks.set(keyOf(record.intent), { intent: record.intent });
			return;
		case 'STARTED': {
			const task = tasks.get(keyOf(record.started));
			if (task !== undefined) tasks.set(keyOf(record.started), { ...task, started: record.started });
			return;
		}
		case 'ENDED': {
			const task = tasks.get(keyOf(record.result));
			if (task !== undefined) tasks.set(keyOf(record.result), { ...task, result: record.result });
			return;
		}
		case 'REFUSED':
		case 'FORGOTTEN':
			tasks.delete(keyOf(record.key));
	}
}

/** The records that say the same as `task`, for the rewrite of a journal. */
export function recordsOf(task: TaskState): readonly StateRecord[] {
	const records: StateRecord[] = [{ kind: 'INTENT', intent: task.intent }];
	if (task.started !== undefined) records.push({ kind: 'STARTED', started: task.started });
	if (task.result !== undefined) records.push({ kind: 'ENDED', result: task.result });
	return records;
}

/** Reads a directory; it may be live (then the answer is as of now) or dead. A directory without a journal is empty. */
export function readState(directory: string): DirectoryState {
	const tasks = new Map<string, TaskState>();
	let text: string;
	try {
		text = readFileSync(join(directory, journalName), 'utf8');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { tasks, damagedLines: 0 };
		throw error;
	}
	// The journal is written into zeros.
	const lines = text.replace(/\0+$/, '').split('\n');
	// What follows the last newline is empty, or torn.
	let damagedLines = lines.pop() === '' ? 0 : 1;
	for (const line of lines) {
		const record = decodeLine(line);
		if (record === undefined) damagedLines += 1;
		else applyRecord(tasks, record);
	}
	return { tasks, damagedLines };
}
