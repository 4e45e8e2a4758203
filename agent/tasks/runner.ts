import { durationMs } from '@bufbuild/protobuf/wkt';
import { every, type Timer } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import type { Command, TaskCancel } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { CommandSink, DeclinedOffer, OutputSource } from '../control/command-sink.ts';
import type { AttemptRow } from '../journal/journal.ts';
import { isUnwritable } from '../journal/rows.ts';
import { type Attempt, keyOf } from './attempt.ts';
import { Ends } from './ends.ts';
import { type Refusal, startedFact } from './facts.ts';
import { HolderLog } from './holder-log.ts';
import { Injections } from './injections.ts';
import { CANCELLED, Intake } from './intake.ts';
import { launchRequest, refusalOf } from './launch.ts';
import { OutputShelf } from './output-shelf.ts';
import type { LaunchOutcome, ProcessHost, StartedInfo, TaskResult } from './process-host.ts';
import { Reattach } from './reattach.ts';
import { Reboots } from './reboots.ts';
import type { RunnerDeps } from './runner-deps.ts';
import { START_LINGER_MS, WriteBehind } from './write-behind.ts';

/**
 * Runs tasks: offer -> verify -> policy -> journal -> process host -> facts. Invariants: nothing is launched before its
 * acceptance is durable; an attempt is launched at most once, and after a crash of anybody only the process host says
 * whether it was; every attempt that may have started ends with exactly one signed receipt; what was refused stays
 * refused. The link feeds it (CommandSink) and reads `output`; agent/process-host/keeper.ts attaches process hosts.
 */
export class TaskRunner implements CommandSink, AsyncDisposable {
	/** For the uploader. */
	readonly output: OutputSource;
	readonly #deps: RunnerDeps;
	readonly #intake: Intake;
	readonly #writes: WriteBehind;
	readonly #shelf: OutputShelf;
	readonly #ends: Ends;
	readonly #reboots: Reboots;
	readonly #injections: Injections;
	readonly #reattach: Reattach;
	/** Accepted and not ended. */
	readonly #attempts = new Map<string, Attempt>();
	/** Of those, the ones to launch, oldest first. */
	readonly #queue = new Set<Attempt>();
	readonly #prune: Timer;
	readonly #abort = new AbortController();
	#host: ProcessHost | undefined;
	/** Everything open was compared with what the host knows: new tasks may be launched. */
	#isSettled = false;
	#noRoomTimer: Timer | undefined;
	/** How many attempts the host had room for when it last refused one; ends ask slowly for more. */
	#room = Number.POSITIVE_INFINITY;
	#isPumpScheduled = false;
	readonly #log: HolderLog;

	constructor(deps: RunnerDeps) {
		this.#deps = deps;
		const { clock, journal, log, limits } = deps;
		this.#log = new HolderLog(deps.platform.recentLog);
		this.#writes = new WriteBehind(clock, journal, log, () => this.#attempts.size > FEW_ATTEMPTS);
		const { signal } = this.#abort;
		this.#shelf = new OutputShelf(journal, this.#writes, (key) => this.#attempts.get(key), signal);
		this.output = this.#shelf;
		const parts = { writes: this.#writes, shelf: this.#shelf, signal };
		this.#ends = new Ends(deps, parts, (attempt) => this.#onClosed(attempt));
		this.#reboots = new Reboots(deps, this.#ends);
		this.#injections = new Injections(deps, this.#ends);
		this.#intake = new Intake(
			deps,
			() => this.#attempts.size,
			(change) => this.#writes.add({ change }),
		);
		const special = { ends: this.#ends, reboots: this.#reboots, injections: this.#injections };
		this.#reattach = new Reattach(deps, special, signal, {
			known: (row) => this.#attempts.get(keyOf(row)) ?? this.#intake.restore(row),
			queue: (attempt) => this.#enqueue(attempt),
			running: (attempt, started) => this.#started(attempt, started),
			stream: (attempt) => this.#stream(attempt),
			streamEnded: (name) => this.#shelf.stream(name),
		});
		const onError = (error: unknown) => log.error('the journal could not be pruned', { error });
		this.#prune = every(clock, limits.prunePeriodMs, () => journal.prune(clock.now() - limits.doneKeepMs), onError);
	}

	handle(command: Command): void {
		const { command: what, correlationId } = command;
		if (what.case === 'taskOffer') this.#intake.take(what.value, correlationId);
		else if (what.case === 'taskCancel') this.#cancel(what.value, correlationId);
	}

	welcomed(fencingSeq: bigint): void {
		this.#intake.setFloor(fencingSeq);
	}

	commit(): void {
		for (const attempt of this.#intake.commit()) this.#enqueue(attempt);
	}

	takeDeclined(): readonly DeclinedOffer[] {
		return this.#intake.takeDeclined();
	}

	attempts(): readonly { readonly taskId: string; readonly attempt: number }[] {
		return this.#deps.journal.listOpenAttempts().slice(0, HELLO_ATTEMPTS_MAX);
	}

	/** What runs in the process host: its box's name there, and its first process. */
	leaders(): readonly { readonly taskId: string; readonly box: string; readonly pid: number | undefined }[] {
		return [...this.#attempts.values()]
			.filter(({ phase }) => phase === 'running')
			.map(({ taskId, attempt, leaderPid: pid }) => ({ taskId, box: `${taskId}.${attempt}`, pid }));
	}

	runningCount(): number {
		return this.#attempts.size - this.#queue.size;
	}

	/** A process host was reached: everything open is compared with what it knows, then new tasks are launched on it. */
	async attachHost(host: ProcessHost): Promise<void> {
		this.#writes.flush();
		const unsubscribe = host.subscribe((event) => {
			if (event.kind === 'ENDED') this.#onResult(event.result);
		});
		void host.closed.then(unsubscribe);
		this.#host = host;
		this.#deps.devices.add(host, host.capabilities.devices);
		this.#room = Number.POSITIVE_INFINITY;
		this.#isSettled = false;
		this.#shelf.setHost(host);
		this.#queue.clear();
		// Before anything is asked: an end that comes meanwhile waits for the answer.
		for (const attempt of this.#attempts.values()) if (attempt.phase !== 'ended') attempt.phase = 'launching';
		const rows = this.#deps.journal.listOpenAttempts();
		await this.#reattach.settle(host, rows, (attempt) => this.#attempts.set(attempt.key, attempt));
		this.#isSettled = true;
		this.#schedulePump();
	}

	detachHost(host: ProcessHost): void {
		this.#deps.devices.remove(host);
		if (this.#host !== host) return;
		this.#host = undefined;
		this.#shelf.setHost(undefined);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#abort.abort();
		this.#prune.cancel();
		this.#noRoomTimer?.cancel();
		for (const attempt of this.#attempts.values()) attempt.timer?.cancel();
		this.#writes.close();
	}

	#cancel(cancel: TaskCancel, correlationId: string): void {
		const { journal, limits } = this.#deps;
		const { taskId, attempt: number } = cancel;
		// What the journal doesn't know yet: offers of this batch, and starts, which must not undo the cancel.
		this.commit();
		this.#writes.flush();
		const row = journal.getAttempt(taskId, number);
		if (row === undefined) {
			this.#intake.refuseUnseen(cancel, correlationId);
			return;
		}
		if (row.phase === 'finished' || row.phase === 'done') return;
		const attempt = this.#attempts.get(keyOf(row));
		if (attempt !== undefined && this.#queue.delete(attempt)) {
			this.#attempts.delete(attempt.key);
			this.#intake.refuse(row, correlationId, CANCELLED);
			return;
		}
		try {
			this.#markCancelled(row, cancel.reason);
		} catch (error) {
			if (attempt === undefined || !isUnwritable(error)) throw error;
			// What fills the disk can be stopped all the same.
			this.#writes.add({ change: () => this.#markCancelled(row, cancel.reason) });
		}
		if (attempt === undefined || attempt.special !== undefined) return;
		attempt.cancelGraceMs = cancel.grace === undefined ? limits.timeoutGraceMs : durationMs(cancel.grace);
		if (attempt.phase === 'running') this.#stop(attempt, attempt.cancelGraceMs);
	}

	#markCancelled({ taskId, attempt }: AttemptRow, reason: string): void {
		const { journal } = this.#deps;
		const row = journal.getAttempt(taskId, attempt);
		if (row === undefined || row.phase === 'finished' || row.phase === 'done') return;
		const phase = row.phase === 'accepted' ? 'cancelling' : row.phase;
		journal.transaction(() => journal.putAttempt({ ...row, phase, cancelReason: reason || CANCELLED.reason }));
	}

	#stop(attempt: Attempt, graceMs: number): void {
		this.#host?.cancel(attempt, graceMs).catch((error: unknown) => {
			// The host is gone or going; what it ran is dead, or is found and stopped when a host is reached.
			attempt.log.warn('a task could not be told to stop yet', { error: messageOf(error) });
		});
	}

	#enqueue(attempt: Attempt): void {
		attempt.phase = 'queued';
		this.#log.heard(attempt.assignmentId);
		this.#attempts.set(attempt.key, attempt);
		this.#queue.add(attempt);
		this.#schedulePump();
	}

	/** Later in this turn, so that what comes together is looked at once. */
	#schedulePump(): void {
		if (this.#isPumpScheduled) return;
		this.#isPumpScheduled = true;
		this.#deps.clock.defer(() => {
			this.#isPumpScheduled = false;
			this.#pump();
		});
	}

	#pump(): void {
		const host = this.#host;
		if (host === undefined || !this.#isSettled || this.#noRoomTimer !== undefined || this.#abort.signal.aborted) return;
		for (const attempt of this.#queue) {
			if (this.runningCount() >= Math.min(host.capabilities.runningMax, this.#room)) return;
			this.#queue.delete(attempt);
			attempt.phase = 'launching';
			this.#launch(host, attempt).catch((error: unknown) => {
				// Started or not: only the host's record says, and it is asked when a host is reached again.
				attempt.log.warn('the process host was lost at a start', { error: messageOf(error) });
			});
		}
	}

	async #launch(host: ProcessHost, attempt: Attempt): Promise<void> {
		const { decision } = attempt;
		const row = this.#deps.journal.getAttempt(attempt.taskId, attempt.attempt);
		if (row?.phase === 'cancelling') return this.#ends.refuse(attempt, CANCELLED);
		if (row?.phase !== 'accepted') return void this.#attempts.delete(attempt.key);
		if (decision.kind === 'refuse') return this.#ends.refuse(attempt, { ...decision, retryable: false });
		if (decision.permit.kind === 'reboot') return this.#reboot(attempt);
		if (decision.permit.kind === 'inject_fault') return this.#inject(attempt);
		const { user } = decision.permit;
		// But this one.
		const others = `${this.runningCount() - 1} tasks`;
		const devices = this.#deps.devices.judge(attempt.assignmentId, user, host.capabilities.devices, others);
		if (devices.kind === 'refused') return this.#ends.refuse(attempt, { ...devices, retryable: false });
		const recentLog = () => this.#log.textFor(attempt.assignmentId);
		const context = { ...this.#deps.platform, graceMs: this.#deps.limits.timeoutGraceMs, recentLog };
		const request = launchRequest(attempt, decision, decision.permit, host.capabilities, context, devices.confine);
		const outcome: LaunchOutcome = await host.launch(request);
		if (outcome.kind === 'STARTED') this.#started(attempt, outcome.started);
		else if (outcome.kind === 'DUPLICATE') await this.#reattach.ask(host, attempt, row);
		else this.#notLaunched(attempt, refusalOf(outcome.reason, outcome.message));
	}

	#notLaunched(attempt: Attempt, refusal: Refusal | 'wait'): void {
		if (refusal !== 'wait') {
			this.#ends.refuse(attempt, refusal);
			return;
		}
		// Without this each end would send the whole queue to a host that has room for one.
		this.#room = Math.max(1, this.runningCount() - 1);
		this.#noRoomTimer ??= this.#deps.clock.setTimer(() => this.#roomMade(), this.#deps.limits.noRoomRetryMs);
		this.#enqueue(attempt);
	}

	#roomMade(): void {
		this.#noRoomTimer?.cancel();
		this.#noRoomTimer = undefined;
		this.#schedulePump();
	}

	#reboot(attempt: Attempt): void {
		// The machine may be gone in a moment: the start is durable before it is asked to go. A full disk holds it up.
		this.#started(attempt, undefined, () => this.#reboots.restart(attempt));
		// Of its output, and there is none.
		attempt.timer?.cancel();
		this.#writes.flush();
	}

	#inject(attempt: Attempt): void {
		this.#started(attempt, undefined);
		this.#injections.inject(attempt);
	}

	/** `onDurable`: once the journal has the start. */
	#started(attempt: Attempt, started: StartedInfo | undefined, onDurable?: () => void): void {
		if (attempt.phase === 'ended') return;
		attempt.phase = 'running';
		attempt.leaderPid = started?.pid;
		attempt.log.debug('launched a task', { pid: started?.pid });
		const { journal, clock, limits } = this.#deps;
		const context = { nowMs: Math.round(started?.startedAtMs ?? clock.now()), correlationId: attempt.correlationId };
		const change = () => {
			const row = journal.getAttempt(attempt.taskId, attempt.attempt);
			if (row?.phase !== 'accepted' && row?.phase !== 'cancelling') return;
			journal.putAttempt({ ...row, phase: 'started' });
			journal.appendFacts([startedFact(context, row, started)]);
		};
		this.#writes.add(onDurable === undefined ? { change } : { change, after: onDurable }, START_LINGER_MS);
		attempt.timer?.cancel();
		attempt.timer = clock.setTimer(() => this.#stream(attempt), limits.liveOutputAfterMs);
		if (attempt.cancelGraceMs !== undefined && attempt.special === undefined)
			this.#stop(attempt, attempt.cancelGraceMs);
		if (attempt.earlyEnd !== undefined) this.#ends.finish(attempt, attempt.earlyEnd, this.#host);
	}

	#stream(attempt: Attempt): void {
		attempt.isStreaming = true;
		this.#shelf.stream(attempt);
	}

	#onResult(result: TaskResult): void {
		const attempt = this.#attempts.get(keyOf(result));
		if (attempt === undefined) return;
		// The answer to the launch comes first, so that a start is told before its end.
		if (attempt.phase === 'launching') attempt.earlyEnd = result;
		else this.#ends.finish(attempt, result, this.#host);
	}

	/** The end of an attempt is durable. */
	#onClosed(attempt: Attempt): void {
		this.#attempts.delete(attempt.key);
		this.#room += ROOM_PROBE;
		if (this.#noRoomTimer !== undefined) this.#roomMade();
		else if (this.#queue.size > 0) this.#schedulePump();
	}
}

/** Up to here every start and end is committed by itself. */
const FEW_ATTEMPTS = 4;

/** One attempt more than the host had room for, after so many ends: small tasks may follow large ones. */
const ROOM_PROBE = 1 / 8;

/** link.proto: Hello.attempts. */
const HELLO_ATTEMPTS_MAX = 2048;
