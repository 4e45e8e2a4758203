import { sleep } from '../../kit/clock.ts';
import { TaskResult as Result } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { AttemptRow } from '../journal/journal.ts';
import { type Attempt, keyOf } from './attempt.ts';
import type { Ends } from './ends.ts';
import { type AttemptName, auditFact } from './facts.ts';
import type { Injections } from './injections.ts';
import { CANCELLED } from './intake.ts';
import { outcomeWithoutHost } from './outcome.ts';
import type { ProcessHost, StartedInfo, TaskKey } from './process-host.ts';
import type { Reboots } from './reboots.ts';
import type { RunnerDeps } from './runner-deps.ts';

/**
 * After a start of the agent or a new process host: what the journal holds open is compared with what the host knows.
 * The host records an intent before it starts anything and keeps every result until it is told to forget it, so no
 * record means no start, unless the journal has seen one: then the host's records are gone, and so is the truth.
 */
export interface ReattachHooks {
	/** The attempt of this row in this process. */
	known(row: AttemptRow): Attempt;
	queue(attempt: Attempt): void;
	running(attempt: Attempt, started: StartedInfo | undefined): void;
	/** A running task whose output is to be streamed, and an ended one whose output isn't stored. */
	stream(attempt: Attempt): void;
	streamEnded(name: AttemptName): void;
}

const STARTING_POLL_MS = 20;

export class Reattach {
	readonly #deps: RunnerDeps;
	readonly #ends: Ends;
	readonly #reboots: Reboots;
	readonly #injections: Injections;
	readonly #hooks: ReattachHooks;
	readonly #signal: AbortSignal;

	constructor(
		deps: RunnerDeps,
		{ ends, reboots, injections }: { readonly ends: Ends; readonly reboots: Reboots; readonly injections: Injections },
		signal: AbortSignal,
		hooks: ReattachHooks,
	) {
		this.#signal = signal;
		this.#deps = deps;
		this.#ends = ends;
		this.#reboots = reboots;
		this.#injections = injections;
		this.#hooks = hooks;
	}

	/** `adopt` is called with each attempt that is still open, before the host is asked about it. */
	async settle(host: ProcessHost, rows: readonly AttemptRow[], adopt: (attempt: Attempt) => void): Promise<void> {
		for (const { taskId, attempt: number } of rows) {
			// Read again: a command may have changed it while the host was asked about others.
			const row = this.#deps.journal.getAttempt(taskId, number);
			if (row === undefined || row.phase === 'done') continue;
			if (row.phase === 'finished') {
				if (!row.outputStored) this.#hooks.streamEnded(row);
				continue;
			}
			const attempt = this.#hooks.known(row);
			if (attempt.phase === 'ended') continue;
			attempt.phase = 'launching';
			adopt(attempt);
			await this.ask(host, attempt, row);
		}
		await this.#dropLeftovers(host);
	}

	/** Takes an attempt up where the host has it. */
	async ask(host: ProcessHost, attempt: Attempt, row: AttemptRow): Promise<void> {
		const found = await host.result({ taskId: attempt.taskId, attempt: attempt.attempt });
		if (found.kind === 'UNKNOWN') {
			this.#unknown(attempt, row);
			return;
		}
		if (found.kind === 'NOT_ENDED' && found.status.phase === 'STARTING') {
			// Its launch was asked for by an agent that died. It may still be refused, and nobody would be told.
			await sleep(this.#deps.clock, STARTING_POLL_MS, this.#signal);
			if (!this.#signal.aborted) await this.ask(host, attempt, row);
			return;
		}
		const started = found.kind === 'ENDED' ? found.result.started : found.status.started;
		if (found.kind === 'ENDED') attempt.earlyEnd = found.result;
		if (started !== undefined || found.kind === 'NOT_ENDED') this.#hooks.running(attempt, started);
		else this.#ends.finish(attempt, found.result, host);
		if (found.kind === 'NOT_ENDED' && row.phase === 'started') this.#hooks.stream(attempt);
	}

	#unknown(attempt: Attempt, row: AttemptRow): void {
		const isSameBoot = row.bootId === this.#deps.platform.bootId;
		if (attempt.special === 'inject_fault' && row.phase === 'started') {
			// Said twice they are the same: both name the task.
			this.#injections.inject(attempt);
			return;
		}
		if (attempt.special === 'reboot' && row.phase === 'started') {
			if (isSameBoot) this.#reboots.await(attempt);
			else this.#reboots.succeed(attempt);
			return;
		}
		const wasStarted = row.phase === 'started';
		if (!wasStarted && isSameBoot && row.phase === 'cancelling') this.#ends.refuse(attempt, CANCELLED);
		else if (!wasStarted && isSameBoot) this.#hooks.queue(attempt);
		else this.#lost(attempt, isSameBoot);
	}

	#lost(attempt: Attempt, isSameBoot: boolean): void {
		if (!attempt.end()) return;
		const reason = isSameBoot ? 'HOST_DIED' : 'HOST_REBOOTED';
		const message = isSameBoot
			? 'the process host of the node lost its records: the task ran, and nothing of its end was kept'
			: 'the machine restarted while the task was there';
		const outcome = outcomeWithoutHost({ result: Result.LOST, reason, message, endedAtMs: this.#deps.clock.now() });
		this.#ends.write(attempt, { outcome, output: [] });
	}

	/** What the host still has and nobody waits for. */
	async #dropLeftovers(host: ProcessHost): Promise<void> {
		for (const status of await host.list()) {
			const row = this.#deps.journal.getAttempt(status.taskId, status.attempt);
			// Done here and alive there: this agent died between writing it off and stopping it.
			const isWrittenOff = row?.phase === 'done' && status.phase !== 'ENDED';
			if (row === undefined || isWrittenOff) await this.#dropUnknown(host, status);
			else if (row.outputStored && (row.phase === 'done' || row.phase === 'finished')) await host.forget(status);
		}
	}

	/** Something that this journal never accepted: the journal was lost, and nobody can answer for what runs. */
	async #dropUnknown(host: ProcessHost, { taskId, attempt }: TaskKey): Promise<void> {
		const key = { taskId, attempt };
		this.#deps.log.error('the process host has a task that the journal does not know; it is stopped', { task: taskId });
		const { journal, clock, platform } = this.#deps;
		const context = { nowMs: clock.now(), correlationId: '' };
		// Known from now on: its offer may come again, and must not be taken for a new one once the host has forgotten it.
		const tombstone: AttemptRow = {
			...key,
			fencingToken: 0n,
			phase: 'done',
			envelope: new Uint8Array(),
			envelopeSha256: new Uint8Array(),
			acceptedAtMs: context.nowMs,
			bootId: platform.bootId,
			cancelReason: '',
			outputStored: true,
		};
		journal.transaction(() => {
			journal.putAttempt(tombstone);
			journal.appendFacts([auditFact(context, 'tasks.stop-unknown', `task ${taskId} attempt ${attempt}`)]);
		});
		const unsubscribe = host.subscribe((event) => {
			if (event.kind !== 'ENDED' || keyOf(event.result) !== keyOf(key)) return;
			unsubscribe();
			host.forget(key).catch(() => {});
		});
		await host.cancel(key, 0);
		if ((await host.forget(key)) !== 'NOT_ENDED') unsubscribe();
	}
}
