/**
 * The registry of attempts: which there are, and what the bounds still allow. It owns nothing of the socket (server.ts
 * calls it) and nothing of the order of records and effects (task-run.ts). An attempt is here from `launch` to `forget`;
 * a refused one leaves nothing.
 */
import { rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type {
	CancelOutcome,
	ForgetOutcome,
	HostCapabilities,
	HostEvent,
	LaunchOutcome,
	LaunchRequest,
	ResultOutcome,
	TaskKey,
	TaskStatus,
} from '../tasks/process-host.ts';
import { Journal, type JournalFile } from './journal.ts';
import { checkLaunch, isTaskKey, type Refusal, refuse, shuttingDown } from './launch-check.ts';
import { type HostConfig, outputCapBytesMax, sampleMs, stdinBytesMax } from './limits.ts';
import { keyOf, recordsOf, type StateRecord, spoolName, type TaskState } from './state.ts';
import { Sweeper, sampleSessions } from './sweeper.ts';
import type { TaskProcess } from './task-process.ts';
import { type RunParts, TaskRun } from './task-run.ts';

export interface HostParts extends Omit<RunParts, 'journal' | 'emit' | 'sweep'> {
	/** A real path. */
	readonly directory: string;
	readonly config: HostConfig;
	readonly journalFile: JournalFile;
	/** Ended tasks of earlier hosts. */
	readonly recovered: ReadonlyMap<string, TaskState>;
}

/** What an attached reader needs to know of a task. */
export interface OutputSource {
	readonly folder: string;
	/** The offset after the last byte so far. */
	readonly endOffset: () => number;
	/** Whether `endOffset` is final and the result durable. */
	readonly hasEnded: () => boolean;
	/** Calls `listener` on new output and at the end; returns the unsubscriber. */
	readonly onChange: (listener: () => void) => () => void;
}

/** An ended task of an earlier host, where a run would be. */
interface Recovered {
	readonly state: TaskState;
	readonly reservedBytes: number;
}

function keptBytes(state: TaskState): number {
	const kept = state.result?.output.kept;
	return kept === undefined ? 0 : kept.stdout.bytes + kept.stderr.bytes;
}

function statusOf(entry: TaskRun | Recovered): TaskStatus {
	const { intent, started, result } = entry.state;
	return {
		taskId: intent.taskId,
		attempt: intent.attempt,
		phase: entry instanceof TaskRun ? entry.phase : 'ENDED',
		...(started === undefined ? {} : { started }),
		outputBytes: entry instanceof TaskRun ? entry.outputBytes : (result?.output.totalBytes ?? 0),
	};
}

export class Host {
	readonly #parts: HostParts;
	readonly #runParts: RunParts;
	readonly #entries = new Map<string, TaskRun | Recovered>();
	readonly #journal: Journal;
	readonly #listeners = new Set<(event: HostEvent) => void>();
	#unfinished = 0;
	#spoolBytes = 0;
	#isShuttingDown = false;

	/** Throws when the journal can't be written. */
	constructor(parts: HostParts) {
		this.#parts = parts;
		for (const [id, state] of parts.recovered) {
			const reservedBytes = keptBytes(state);
			this.#spoolBytes += reservedBytes;
			this.#entries.set(id, { state, reservedBytes });
		}
		this.#journal = new Journal(parts.journalFile, () => this.#records());
		this.#journal.rewrite();
		const sweeper = new Sweeper(parts.clock);
		this.#runParts = {
			...parts,
			journal: this.#journal,
			sweep: (session) => sweeper.add(session),
			emit: (event) => {
				for (const listener of this.#listeners) listener(event);
			},
		};
	}

	get capabilities(): HostCapabilities {
		const { boxes, wrappers, config } = this.#parts;
		return {
			limits: boxes.limits,
			containment: boxes.containment,
			devices: boxes.devices,
			userSwitch: wrappers.userSwitch,
			runningMax: config.runningMax,
			retainedMax: config.retainedMax,
			stdinBytesMax,
			// More than the spool holds would never be promised to anybody.
			outputCapBytesMax: Math.min(outputCapBytesMax, config.spoolBytesMax),
		};
	}

	async launch(request: LaunchRequest): Promise<LaunchOutcome> {
		if (!isTaskKey(request)) return refuse('INVALID_REQUEST', 'taskId or attempt is malformed; correct the request');
		const known = this.#entries.get(keyOf(request));
		if (known !== undefined) {
			const outcome = known instanceof TaskRun ? await known.launching : undefined;
			return outcome?.kind === 'REFUSED' ? outcome : { kind: 'DUPLICATE', status: statusOf(known) };
		}
		const refusal = checkLaunch(request) ?? this.#checkRoom(request);
		if (refusal !== undefined) return refusal;
		const id = keyOf(request);
		const run = new TaskRun(this.#runParts, request, join(this.#parts.directory, spoolName, id));
		this.#entries.set(id, run);
		this.#unfinished += 1;
		this.#spoolBytes += run.reservedBytes;
		run.finished.then(() => {
			this.#unfinished -= 1;
			this.#spoolBytes -= request.outputCapBytes - run.reservedBytes;
		});
		const outcome = await run.launching;
		if (outcome.kind === 'REFUSED') this.#drop(id, run);
		return outcome;
	}

	cancel(key: TaskKey, graceMs: number): CancelOutcome {
		const entry = this.#entries.get(keyOf(key));
		if (entry === undefined) return 'UNKNOWN';
		if (!(entry instanceof TaskRun) || entry.state.result !== undefined) return 'ALREADY_ENDED';
		entry.stop('CANCEL', graceMs);
		return 'STOPPING';
	}

	list(): readonly TaskStatus[] {
		return Array.from(this.#entries.values(), statusOf);
	}

	result(key: TaskKey): ResultOutcome {
		const entry = this.#entries.get(keyOf(key));
		if (entry === undefined) return { kind: 'UNKNOWN' };
		const status = statusOf(entry);
		const { result } = entry.state;
		// A result that isn't durable yet doesn't exist yet.
		return status.phase === 'ENDED' && result !== undefined ? { kind: 'ENDED', result } : { kind: 'NOT_ENDED', status };
	}

	forget(key: TaskKey): ForgetOutcome {
		const id = keyOf(key);
		const entry = this.#entries.get(id);
		if (entry === undefined) return 'UNKNOWN';
		if (statusOf(entry).phase !== 'ENDED') return 'NOT_ENDED';
		this.#drop(id, entry);
		if ((entry.state.result?.output.totalBytes ?? 0) > 0) {
			rmSync(join(this.#parts.directory, spoolName, id), { recursive: true, force: true });
		}
		// Not awaited: a task that comes back after a crash is forgotten once more by whoever has its result.
		this.#journal.append({ kind: 'FORGOTTEN', key: entry.state.intent }).catch(() => undefined);
		return 'FORGOTTEN';
	}

	output(key: TaskKey): OutputSource | undefined {
		const id = keyOf(key);
		const entry = this.#entries.get(id);
		if (entry === undefined) return undefined;
		const folder = join(this.#parts.directory, spoolName, id);
		if (entry instanceof TaskRun) {
			return {
				folder,
				endOffset: () => entry.outputBytes,
				hasEnded: () => entry.phase === 'ENDED',
				onChange: (listener) => entry.onChange(listener),
			};
		}
		const { outputBytes } = statusOf(entry);
		return { folder, endOffset: () => outputBytes, hasEnded: () => true, onChange: () => () => undefined };
	}

	/** Throws when they could not be set for all who are confined. */
	allowDevices(allow: readonly string[]): void {
		this.#parts.boxes.allowDevices(allow);
	}

	subscribe(listener: (event: HostEvent) => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	/** Called once a `sampleMs`. */
	sample(): void {
		// With its controllers the cgroup accounts for everything, exactly.
		if (this.#parts.boxes.limits === 'cgroup2') return;
		const tasks: TaskProcess[] = [];
		const beforeMs = this.#parts.clock.now() - sampleMs;
		for (const { process, state } of this.#runs()) {
			// A scan costs ~20 us a process of the machine: not for tasks that are over before the next one.
			if (process !== undefined && (state.started?.startedAtMs ?? beforeMs) < beforeMs) tasks.push(process);
		}
		if (tasks.length > 0) sampleSessions(tasks);
	}

	/** Takes no more tasks if none is unfinished; what has ended is on disk, for the next host. False: it goes on. */
	retire(): boolean {
		if (this.#unfinished > 0) return false;
		this.#isShuttingDown = true;
		return true;
	}

	/** Takes no more tasks, stops those that run, and resolves when every result is durable. */
	async shutdown(graceMs: number): Promise<void> {
		this.#isShuttingDown = true;
		const runs = [...this.#runs()];
		for (const run of runs) run.stop('SHUTDOWN', graceMs);
		await Promise.all(runs.map((run) => run.finished));
		await this.#journal.close();
		await this.#parts.boxes.close();
	}

	*#runs(): Generator<TaskRun, void, void> {
		for (const entry of this.#entries.values()) if (entry instanceof TaskRun) yield entry;
	}

	*#records(): Generator<StateRecord, void, void> {
		for (const entry of this.#entries.values()) yield* recordsOf(entry.state);
	}

	#drop(id: string, entry: TaskRun | Recovered): void {
		this.#entries.delete(id);
		this.#spoolBytes -= entry.reservedBytes;
	}

	#checkRoom(request: LaunchRequest): Refusal | undefined {
		const { config, directory } = this.#parts;
		if (this.#isShuttingDown) return shuttingDown();
		if (this.#unfinished >= config.runningMax) {
			return refuse(
				'TOO_MANY_TASKS',
				`${config.runningMax} tasks run already, which is the limit; retry when one ended`,
			);
		}
		if (this.#entries.size >= config.retainedMax) {
			return refuse('TOO_MANY_RETAINED', `${config.retainedMax} tasks are kept; forget those whose results are stored`);
		}
		if (this.#spoolBytes + request.outputCapBytes > config.spoolBytesMax) {
			return refuse(
				'SPOOL_FULL',
				'the output that running tasks may still write fills the spool; lower caps or forget',
			);
		}
		const { bavail, bsize } = statfsSync(directory);
		if (bavail * bsize >= config.diskFloorBytes) return undefined;
		return refuse('DISK_FULL', `less than ${config.diskFloorBytes} bytes are free under ${directory}; free space`);
	}
}
