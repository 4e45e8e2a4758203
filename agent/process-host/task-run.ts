/**
 * One attempt from its intent to its durable result, in this order and no other:
 *   INTENT durable -> fork -> STARTED durable -> answer and event -> leader's exit -> output durable -> ENDED durable -> event
 * A step that fails before the fork is undone: REFUSED durable, no process, no entry. After the fork there is no way
 * back: a disk that takes no record stops the task (stoppedBy DISK) and holds up the answer until it takes one.
 */
import { rmSync } from 'node:fs';
import { type Clock, sleep } from '../../kit/clock.ts';
import type { HostEvent, LaunchOutcome, LaunchRequest, StartedInfo, StopCause } from '../tasks/process-host.ts';
import { DevicesUnheld } from './device-groups.ts';
import { execChain, type Wrappers } from './exec-chain.ts';
import type { FifoPool } from './fifo.ts';
import type { Journal } from './journal.ts';
import { devicesOpen, devicesUnheld, type Refusal, refuse, shuttingDown } from './launch-check.ts';
import { journalRetryMs } from './limits.ts';
import { SpoolWriter } from './spool.ts';
import { keyOf, type StateRecord, type TaskIntent, type TaskState } from './state.ts';
import type { BoxFactory, TaskBox } from './task-box.ts';
import { startTask, type TaskProcess } from './task-process.ts';
import type { UnixUser, Users } from './users.ts';
import type { Waiter } from './waiter.ts';

export interface RunParts {
	readonly clock: Clock;
	readonly bootId: string;
	readonly boxes: BoxFactory;
	readonly wrappers: Wrappers;
	readonly users: Users;
	readonly fifos: FifoPool;
	readonly journal: Journal;
	readonly emit: (event: HostEvent) => void;
	/** The leader of that session ended, and members of it may be left. */
	readonly sweep: (session: number) => void;
	readonly log: (line: string) => void;
	readonly waiter: Waiter;
}

class Refused extends Error {
	readonly refusal: Refusal;
	constructor(refusal: Refusal) {
		super(refusal.message);
		this.refusal = refusal;
	}
}

function codeOf(error: unknown): string {
	return (error as NodeJS.ErrnoException | undefined)?.code ?? String(error);
}

function journalRefusal(error: unknown): Refusal {
	const code = codeOf(error);
	if (code === 'ENOSPC' || code === 'EDQUOT') {
		return refuse('DISK_FULL', 'the record of the start found no room on disk; nothing was started; free space');
	}
	return refuse('SPAWN_FAILED', `the record of the start could not be written (${code}); nothing was started`);
}

function spawnRefusal(error: unknown): Refusal {
	if (error instanceof Refused) return error.refusal;
	if (error instanceof DevicesUnheld) return devicesUnheld(error.message);
	const code = codeOf(error);
	if (code === 'E2BIG') return refuse('ARGUMENTS_TOO_LARGE', 'argv and env together exceed what exec takes');
	if (code === 'ENOSPC') return refuse('DISK_FULL', 'the pipes of the task found no room on disk; free space');
	return refuse('SPAWN_FAILED', `the process could not be made (${code}); nothing was started; try again later`);
}

export class TaskRun {
	readonly id: string;
	readonly folder: string;
	readonly launching: Promise<LaunchOutcome>;
	/** Resolves when the result is durable, or the launch refused. */
	readonly finished: Promise<void>;
	readonly #parts: RunParts;
	readonly #request: LaunchRequest;
	readonly #spool: SpoolWriter;
	readonly #turn: number;
	readonly #listeners = new Set<() => void>();
	#state: TaskState;
	#process: TaskProcess | undefined;
	#stopAsked: { readonly cause: StopCause; readonly graceMs: number } | undefined;
	#isEnded = false;

	/** `request` has passed `checkLaunch`; `folder` is its spool. */
	constructor(parts: RunParts, request: LaunchRequest, folder: string) {
		const { taskId, attempt, outputCapBytes } = request;
		this.id = keyOf(request);
		this.folder = folder;
		this.#parts = parts;
		this.#request = request;
		this.#turn = parts.boxes.turn();
		this.#spool = new SpoolWriter(folder, outputCapBytes);
		this.#state = { intent: { taskId, attempt, bootId: parts.bootId, atMs: parts.clock.now(), outputCapBytes } };
		let finish: (() => void) | undefined;
		this.finished = new Promise((resolve) => {
			finish = resolve;
		});
		this.launching = this.#launch(() => finish?.());
	}

	/** What is known, durable or about to be; the journal's rewrite takes it from here. */
	get state(): TaskState {
		return this.#state;
	}

	get phase(): 'STARTING' | 'RUNNING' | 'ENDED' {
		return this.#isEnded ? 'ENDED' : this.#state.started === undefined ? 'STARTING' : 'RUNNING';
	}

	/** Of the spool: what it may grow to while the task runs, then what it holds. */
	get reservedBytes(): number {
		return this.#isEnded ? this.#spool.diskBytes : this.#request.outputCapBytes;
	}

	get outputBytes(): number {
		return this.#spool.offset;
	}

	/** The process while it runs. */
	get process(): TaskProcess | undefined {
		return this.#state.result === undefined ? this.#process : undefined;
	}

	stop(cause: StopCause, graceMs: number): void {
		this.#stopAsked ??= { cause, graceMs };
		this.#process?.stop(cause, graceMs);
	}

	/** `listener` hears of new output and of the end. */
	onChange(listener: () => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	async #launch(finish: () => void): Promise<LaunchOutcome> {
		let box: TaskBox | undefined;
		let isIntended = false;
		try {
			const user = await this.#resolveUser();
			const fifos = await this.#parts.fifos.take(this.#request.stdin === undefined ? 2 : 3);
			box = this.#makeBox();
			await this.#intend(box);
			isIntended = true;
			this.#process = await this.#fork(user, box, fifos);
		} catch (error) {
			this.#removeUnused(box);
			// Should this record get lost, the attempt reads "may have started", which errs on the safe side.
			const { taskId, attempt } = this.#request;
			if (isIntended)
				await this.#parts.journal.append({ kind: 'REFUSED', key: { taskId, attempt } }).catch(() => undefined);
			finish();
			return spawnRefusal(error);
		}
		const { cause, graceMs } = this.#stopAsked ?? {};
		if (cause !== undefined && graceMs !== undefined) this.#process.stop(cause, graceMs);
		const started = this.#startedInfo(this.#process, box);
		this.#state = { ...this.#state, started };
		const announced = this.#announce(started);
		void this.#follow(this.#process, announced).then(finish);
		await announced;
		return { kind: 'STARTED', started };
	}

	/** Undefined: the host's own. */
	async #resolveUser(): Promise<UnixUser | undefined> {
		const name = this.#request.user;
		const { users, wrappers } = this.#parts;
		if (name === undefined || (name === users.self.name && users.self.uid !== 0)) return undefined;
		const user = await users.find(name);
		if (user === undefined) {
			throw new Refused(refuse('USER_UNKNOWN', `there is no unix user ${name} on this node; nothing was started`));
		}
		if (wrappers.userSwitch) return user;
		const why = `the process host runs as ${users.self.name} and cannot become ${name}; run it as root`;
		throw new Refused(refuse('USER_SWITCH_UNAVAILABLE', why));
	}

	#makeBox(): TaskBox {
		const { limits = {}, confine } = this.#request;
		const { boxes } = this.#parts;
		if (confine !== undefined && boxes.devices === 'none') throw new Refused(devicesOpen());
		return boxes.create(this.id, limits, confine, this.#turn);
	}

	async #intend(box: TaskBox): Promise<void> {
		const intent: TaskIntent = { ...this.#state.intent, ...(box.cgroup === undefined ? {} : { cgroup: box.cgroup }) };
		this.#state = { intent };
		try {
			await this.#parts.journal.append({ kind: 'INTENT', intent });
		} catch (error) {
			throw new Refused(journalRefusal(error));
		}
	}

	#fork(user: UnixUser | undefined, box: TaskBox, fifos: readonly string[]): Promise<TaskProcess> {
		const request = this.#request;
		return startTask({
			clock: this.#parts.clock,
			request,
			chain: execChain(this.#parts.wrappers, user, box.rlimits, request),
			box,
			fifos,
			waiter: this.#parts.waiter,
			onOutput: (stream, chunk) => {
				this.#spool.write(stream, chunk);
				this.#notify();
			},
			assertWanted: () => {
				if (this.#stopAsked === undefined) return;
				// Nobody cancelled it: the next host starts it.
				if (this.#stopAsked.cause === 'SHUTDOWN') throw new Refused(shuttingDown());
				throw new Refused(refuse('CANCELLED', 'it was cancelled before it started; nothing was started'));
			},
		});
	}

	#startedInfo(process: TaskProcess, box: TaskBox): StartedInfo {
		const { intent } = this.#state;
		const { bootId, clock, boxes } = this.#parts;
		return {
			taskId: intent.taskId,
			attempt: intent.attempt,
			pid: process.pid,
			startTimeTicks: process.startTimeTicks,
			bootId,
			startedAtMs: clock.now(),
			limits: boxes.limits,
			containment: boxes.containment,
			unenforced: box.unenforced,
		};
	}

	async #announce(started: StartedInfo): Promise<void> {
		await this.#appendUntilDurable({ kind: 'STARTED', started });
		this.#parts.emit({ kind: 'STARTED', started });
	}

	async #follow(process: TaskProcess, announced: Promise<void>): Promise<void> {
		const { end, stoppedBy, usage, mayHaveLeft } = await process.ended;
		if (mayHaveLeft) this.#parts.sweep(process.pid);
		const output = await this.#spool.seal(this.#parts.clock);
		const { intent, started } = this.#state;
		const result = {
			taskId: intent.taskId,
			attempt: intent.attempt,
			end,
			stoppedBy,
			...(started === undefined ? {} : { started }),
			endedAtMs: this.#parts.clock.now(),
			usage,
			output,
		};
		this.#state = { ...this.#state, result };
		await Promise.all([announced, this.#appendUntilDurable({ kind: 'ENDED', result })]);
		this.#isEnded = true;
		this.#notify();
		this.#parts.emit({ kind: 'ENDED', result });
	}

	async #appendUntilDurable(record: StateRecord): Promise<void> {
		for (;;) {
			try {
				return await this.#parts.journal.append(record);
			} catch (error) {
				this.#parts.log(`${this.id}: cannot record ${record.kind} (${codeOf(error)}); trying again`);
				this.#process?.stop('DISK', 0);
				await sleep(this.#parts.clock, journalRetryMs);
			}
		}
	}

	#removeUnused(box: TaskBox | undefined): void {
		box?.kill();
		box?.remove();
		rmSync(this.folder, { recursive: true, force: true });
	}

	#notify(): void {
		for (const listener of this.#listeners) listener();
	}
}
