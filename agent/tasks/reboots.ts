import { messageOf } from '../../kit/error.ts';
import { TaskResult as Result } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { Attempt } from './attempt.ts';
import type { Ends } from './ends.ts';
import { outcomeWithoutHost } from './outcome.ts';
import type { RunnerDeps } from './runner-deps.ts';

/**
 * The one kind of task that isn't a process: it has started once that is durable, and it has succeeded when the agent
 * comes back under another boot id. Never done twice: a start on record is only waited for.
 */
export class Reboots {
	readonly #deps: RunnerDeps;
	readonly #ends: Ends;
	/** The machine was asked to restart for them. */
	readonly #asked = new WeakSet<Attempt>();

	constructor(deps: RunnerDeps, ends: Ends) {
		this.#deps = deps;
		this.#ends = ends;
	}

	/** `attempt` is on record as started. */
	restart(attempt: Attempt): void {
		if (attempt.phase === 'ended' || this.#asked.has(attempt)) return;
		this.#asked.add(attempt);
		this.await(attempt);
		attempt.log.warn('restarting this machine, as a task asked');
		this.#deps.platform.rebooter.reboot().catch((error: unknown) => {
			this.#finish(attempt, Result.FAILED, 'REBOOT_NOT_ALLOWED', `the restart failed: ${messageOf(error)}`);
		});
	}

	/** The same boot goes on: the machine may still be going down. */
	await(attempt: Attempt): void {
		const { clock, limits } = this.#deps;
		attempt.phase = 'running';
		attempt.timer?.cancel();
		attempt.timer = clock.setTimer(
			() => this.#finish(attempt, Result.TIMED_OUT, 'TIMED_OUT', 'the machine was told to restart and did not'),
			limits.rebootTimeoutMs,
		);
	}

	/** Another boot than the one that accepted it. */
	succeed(attempt: Attempt): void {
		this.#finish(attempt, Result.SUCCEEDED, '', 'the machine restarted');
	}

	#finish(attempt: Attempt, result: Result, reason: string, message: string): void {
		if (!attempt.end()) return;
		const outcome = outcomeWithoutHost({ result, reason, message, endedAtMs: this.#deps.clock.now() });
		this.#ends.write(attempt, { outcome, output: [] });
	}
}
