import { messageOf } from '../../kit/error.ts';
import { TaskResult as Result } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { Attempt } from './attempt.ts';
import type { Ends } from './ends.ts';
import { outcomeWithoutHost } from './outcome.ts';
import type { RunnerDeps } from './runner-deps.ts';

/**
 * Faults that the control plane asked for and the local policy permits: this agent says that something is wrong, marked
 * as simulated and with its end, by the way that any health fact goes. Nothing on this host is touched.
 */
export class Injections {
	readonly #deps: RunnerDeps;
	readonly #ends: Ends;

	constructor(deps: RunnerDeps, ends: Ends) {
		this.#deps = deps;
		this.#ends = ends;
	}

	/** `attempt` is on record as started. */
	inject(attempt: Attempt): void {
		const { platform, clock } = this.#deps;
		const { decision } = attempt;
		if (!attempt.end()) return;
		const finish = (result: Result, reason: string, message: string) =>
			this.#ends.write(attempt, {
				outcome: outcomeWithoutHost({ result, reason, message, endedAtMs: clock.now() }),
				output: [],
			});
		if (decision.kind !== 'permit' || decision.permit.kind !== 'inject_fault') {
			finish(Result.FAILED, 'POLICY_KIND', 'the policy of this node permits no injected faults any more');
			return;
		}
		const { faults, endsAtMs } = decision.permit;
		// It was taken up long after it was ordered: the agent was down, or away.
		if (clock.now() >= endsAtMs) {
			finish(
				Result.TIMED_OUT,
				'TIMED_OUT',
				'the time of the injected faults is over: nothing is said of them any more',
			);
			return;
		}
		try {
			platform.injectFaults(attempt.taskId, faults, endsAtMs);
		} catch (error) {
			finish(Result.FAILED, 'INTERNAL', `the faults could not be said: ${messageOf(error)}`);
			return;
		}
		attempt.log.warn('said, as a task asked, that something is wrong', { faults: faults.length });
		finish(Result.SUCCEEDED, '', 'said as simulated facts');
	}
}
