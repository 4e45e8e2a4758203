import { createHash } from 'node:crypto';
import type {
	CancelOutcome,
	ForgetOutcome,
	HostCapabilities,
	HostEvent,
	LaunchOutcome,
	LaunchRequest,
	OutputSummary,
	ResultOutcome,
	StartedInfo,
	StopCause,
	StreamDigest,
	TaskEnd,
	TaskKey,
	TaskResult,
	TaskStatus,
} from '../../../agent/tasks/process-host.ts';
import type { Timer } from '../../../kit/clock.ts';
import { outputOf, programOf, type Written } from './programs.ts';
import type { SeededRng } from './random.ts';
import type { Scheduler, SimProcess } from './scheduler.ts';

/**
 * A machine's process host in memory. Its records are the machine's disk and survive everything; its processes survive
 * the agent and die with the host. It counts every time that a program really begins, whatever anybody's records say:
 * that count is what the checker of "nothing runs twice" believes.
 */
interface Run {
	readonly request: LaunchRequest;
	readonly written: readonly Written[];
	started: StartedInfo | undefined;
	result: TaskResult | undefined;
	/** Index in `written` up to which it has been written. */
	progress: number;
	cancelled: boolean;
	readonly timers: Timer[];
	stop: ((cause: StopCause, graceMs: number) => void) | undefined;
	/** Records the start and answers the launch; once. */
	tellStart: () => void;
}

export const SIM_CAPABILITIES: HostCapabilities = Object.freeze({
	limits: 'rlimit',
	containment: 'session',
	devices: 'none',
	userSwitch: false,
	runningMax: 64,
	retainedMax: 256,
	stdinBytesMax: 65_536,
	outputCapBytesMax: 64 * 1024 * 1024,
});

const keyOf = ({ taskId, attempt }: TaskKey) => `${taskId}/${attempt}`;

/** What the checkers are told: a program began, now. */
export type OnExecution = (node: string, key: TaskKey) => void;

export class SimHost {
	readonly node: string;
	readonly #scheduler: Scheduler;
	readonly #rng: SeededRng;
	readonly #onExecution: OnExecution;
	readonly #runs = new Map<string, Run>();
	readonly #listeners = new Set<(event: HostEvent) => void>();
	readonly #watchers = new Set<() => void>();
	readonly #onDown: (() => void)[] = [];
	#process: SimProcess | undefined;
	#bootId: string;
	#boots = 1;
	#pids = 100;
	#incarnations = 0;
	/** Launches are refused with it. */
	fault: 'DISK_FULL' | 'TOO_MANY_TASKS' | undefined;
	/** Injected bugs, to prove that the checker looks: programs begin twice; the host dies of it and loses its records. */
	isSloppy = false;
	isForgetful = false;

	constructor(node: string, scheduler: Scheduler, rng: SeededRng, onExecution: OnExecution) {
		this.node = node;
		this.#scheduler = scheduler;
		this.#rng = rng;
		this.#onExecution = onExecution;
		this.#bootId = `${node}-boot-1`;
	}

	get bootId(): string {
		return this.#bootId;
	}

	get isUp(): boolean {
		return this.#process?.alive === true;
	}

	/** Attempts with a result that nobody fetched and forgot, or that still run. */
	get runCount(): number {
		return this.#runs.size;
	}

	/** Starts a host where none lives; it finds out what the last one left. */
	start(): void {
		if (this.isUp) return;
		this.#incarnations += 1;
		this.#process = this.#scheduler.process(`${this.node} host ${this.#incarnations}`, { ms: 0 });
		for (const run of this.#runs.values()) if (run.result === undefined) this.#finish(run, this.#lostEnd(run), 'NONE');
	}

	/** kill -9 of the host: what it ran dies with it. */
	kill(): void {
		const process = this.#process;
		if (process === undefined) return;
		this.#scheduler.note(`${this.node} host killed`);
		this.#process = undefined;
		process.kill();
		for (const run of this.#runs.values()) {
			for (const timer of run.timers) timer.cancel();
			run.stop = undefined;
		}
		if (this.isForgetful) this.#runs.clear();
		this.#listeners.clear();
		for (const listener of this.#onDown.splice(0)) listener();
	}

	/** The machine restarts: host and agent die, the boot id changes. */
	reboot(): void {
		this.kill();
		this.#boots += 1;
		this.#bootId = `${this.node}-boot-${this.#boots}`;
	}

	onDown(listener: () => void): void {
		this.#onDown.push(listener);
	}

	subscribe(listener: (event: HostEvent) => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	/** Called whenever some run has more output, or an end. */
	watch(listener: () => void): () => void {
		this.#watchers.add(listener);
		return () => this.#watchers.delete(listener);
	}

	launch(request: LaunchRequest, answer: (outcome: LaunchOutcome) => void): void {
		const key = keyOf(request);
		const known = this.#runs.get(key);
		if (known !== undefined) {
			answer({ kind: 'DUPLICATE', status: statusOf(known) });
			return;
		}
		const refusal = this.#refusal(request);
		if (refusal !== undefined) {
			answer({ kind: 'REFUSED', reason: refusal, message: `simulated: ${refusal}` });
			return;
		}
		const written = outputOf(key, programOf(request.argv).outputBytes, request.outputCapBytes);
		const run: Run = {
			request,
			written,
			started: undefined,
			result: undefined,
			progress: 0,
			cancelled: false,
			timers: [],
			stop: undefined,
			tellStart: () => {},
		};
		// The intent is durable from here on; the program begins a moment later.
		this.#runs.set(key, run);
		this.#later(run, this.#rng.float() * 5, () => {
			if (run.cancelled) {
				this.#runs.delete(key);
				answer({ kind: 'REFUSED', reason: 'CANCELLED', message: 'it was cancelled before it started' });
				return;
			}
			let isTold = false;
			run.tellStart = () => {
				if (isTold) return;
				isTold = true;
				run.started = this.#startedInfo(run);
				answer({ kind: 'STARTED', started: run.started });
				this.#emit({ kind: 'STARTED', started: run.started });
			};
			this.#begin(run);
			this.#later(run, this.#rng.float() * 3, () => run.tellStart());
		});
	}

	list(): readonly TaskStatus[] {
		return [...this.#runs.values()].map(statusOf);
	}

	result(key: TaskKey): ResultOutcome {
		const run = this.#runs.get(keyOf(key));
		if (run === undefined) return { kind: 'UNKNOWN' };
		return run.result === undefined
			? { kind: 'NOT_ENDED', status: statusOf(run) }
			: { kind: 'ENDED', result: run.result };
	}

	cancel(key: TaskKey, graceMs: number): CancelOutcome {
		const run = this.#runs.get(keyOf(key));
		if (run === undefined) return 'UNKNOWN';
		if (run.result !== undefined) return 'ALREADY_ENDED';
		run.cancelled = true;
		run.stop?.('CANCEL', graceMs);
		return 'STOPPING';
	}

	forget(key: TaskKey): ForgetOutcome {
		const run = this.#runs.get(keyOf(key));
		if (run === undefined) return 'UNKNOWN';
		if (run.result === undefined) return 'NOT_ENDED';
		this.#runs.delete(keyOf(key));
		return 'FORGOTTEN';
	}

	/** What was written so far; undefined for an unknown attempt. */
	output(key: TaskKey): { readonly written: readonly Written[]; readonly isEnded: boolean } | undefined {
		const run = this.#runs.get(keyOf(key));
		if (run === undefined) return undefined;
		return { written: run.written.slice(0, run.progress), isEnded: run.result !== undefined };
	}

	#refusal(request: LaunchRequest) {
		if (this.fault !== undefined) return this.fault;
		if (this.#runs.size >= SIM_CAPABILITIES.retainedMax) return 'TOO_MANY_RETAINED';
		return programOf(request.argv).manners === 'missing' ? 'COMMAND_NOT_FOUND' : undefined;
	}

	#begin(run: Run): void {
		const { request } = run;
		const { durationMs, exitCode, manners } = programOf(request.argv);
		for (let times = this.isSloppy ? 2 : 1; times > 0; times -= 1) {
			this.#scheduler.note(`${this.node} executes ${keyOf(request)}`);
			this.#onExecution(this.node, request);
		}
		if (this.isForgetful) this.#scheduler.after(0, () => this.kill());
		const end = (how: TaskEnd, cause: StopCause) => {
			if (run.result !== undefined || run.stop === undefined) return;
			run.stop = undefined;
			for (const timer of run.timers) timer.cancel();
			// Its start is recorded and told before its end, however short it was.
			run.tellStart();
			this.#finish(run, how, cause);
		};
		run.stop = (cause, graceMs) => {
			if (manners === 'polite') this.#later(run, 2, () => end({ kind: 'SIGNALED', signal: 'SIGTERM' }, cause));
			else this.#later(run, graceMs, () => end({ kind: 'SIGNALED', signal: 'SIGKILL' }, cause));
		};
		const stepMs = durationMs / (run.written.length + 1);
		for (let index = 1; index <= run.written.length; index += 1) {
			this.#later(run, stepMs * index, () => {
				run.progress = index;
				this.#changed();
			});
		}
		this.#later(run, durationMs, () => end({ kind: 'EXITED', exitCode }, run.cancelled ? 'CANCEL' : 'NONE'));
		if (request.timeoutMs < durationMs)
			this.#later(run, request.timeoutMs, () => run.stop?.('TIMEOUT', request.graceMs));
	}

	#finish(run: Run, end: TaskEnd, stoppedBy: StopCause): void {
		const { taskId, attempt } = run.request;
		run.result = {
			taskId,
			attempt,
			end,
			stoppedBy,
			...(run.started === undefined ? {} : { started: run.started }),
			endedAtMs: Math.round(1_800_000_000_000 + this.#scheduler.elapsedMs),
			usage: { cpuSource: 'none', cpuUserMs: 0, cpuSystemMs: 0, maxRssSource: 'none', maxRssBytes: 0 },
			output: summaryOf(run.written.slice(0, run.progress)),
		};
		this.#scheduler.note(`${this.node} ended ${taskId}/${attempt} ${end.kind} ${stoppedBy}`);
		this.#emit({ kind: 'ENDED', result: run.result });
		this.#changed();
	}

	#lostEnd(run: Run): TaskEnd {
		return run.started !== undefined && run.started.bootId !== this.#bootId
			? { kind: 'HOST_REBOOTED' }
			: { kind: 'HOST_DIED' };
	}

	#startedInfo(run: Run): StartedInfo {
		if (run.started !== undefined) return run.started;
		const { taskId, attempt } = run.request;
		this.#pids += 1;
		return {
			taskId,
			attempt,
			pid: this.#pids,
			startTimeTicks: Math.round(this.#scheduler.elapsedMs / 10),
			bootId: this.#bootId,
			startedAtMs: Math.round(1_800_000_000_000 + this.#scheduler.elapsedMs),
			limits: 'rlimit',
			containment: 'session',
			unenforced: [],
		};
	}

	#later(run: Run, delayMs: number, callback: () => void): void {
		const process = this.#process;
		if (process !== undefined) run.timers.push(process.after(delayMs, callback));
	}

	#emit(event: HostEvent): void {
		for (const listener of [...this.#listeners]) listener(event);
	}

	#changed(): void {
		for (const watcher of [...this.#watchers]) watcher();
	}
}

function statusOf(run: Run): TaskStatus {
	const { taskId, attempt } = run.request;
	const last = run.written[run.progress - 1];
	return {
		taskId,
		attempt,
		phase: run.result !== undefined ? 'ENDED' : run.started === undefined ? 'STARTING' : 'RUNNING',
		...(run.started === undefined ? {} : { started: run.started }),
		outputBytes: last === undefined ? 0 : last.offset + last.bytes.length,
	};
}

function summaryOf(written: readonly Written[]): OutputSummary {
	const digest = (chunks: readonly Written[], stream: 'stdout' | 'stderr'): StreamDigest => {
		const hash = createHash('sha256');
		let bytes = 0;
		for (const chunk of chunks) {
			if (chunk.stream !== stream) continue;
			hash.update(chunk.bytes);
			bytes += chunk.bytes.length;
		}
		return { bytes, sha256: hash.digest('hex') };
	};
	const both = (chunks: readonly Written[]) => ({ stdout: digest(chunks, 'stdout'), stderr: digest(chunks, 'stderr') });
	const size = (chunks: readonly Written[]) => chunks.reduce((sum, { bytes }) => sum + bytes.length, 0);
	const dropped = written.filter((chunk) => chunk.dropped);
	return {
		totalBytes: size(written),
		droppedBytes: size(dropped),
		written: both(written),
		kept: both(written.filter((chunk) => !chunk.dropped)),
	};
}
