import type { Clock, Timer } from '../../../kit/clock.ts';
import { type Rng, uuidv7 } from '../../../kit/ids.ts';
import type { HistoryAnswer } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AgentSessions, HistoryQueryCommand } from '../sessions/agent-sessions.ts';
import type { TelemetryLimits } from './limits.ts';

/**
 * Questions to the rings of agents: three hours at full resolution that no database holds. An agent that is away, busy
 * or old doesn't answer, and then whoever asked goes on without it. Bounded in number and time; an answer that nobody
 * waits for, or that comes from another node than was asked, is dropped.
 */
export interface RingQueryDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly sessions: AgentSessions;
	readonly limits: Pick<TelemetryLimits, 'ringTimeoutMs' | 'ringQueriesMax'>;
}

interface Waiting {
	readonly nodeId: string;
	readonly timer: Timer;
	resolve(answer: HistoryAnswer | undefined): void;
}

export class RingQueries {
	readonly #deps: RingQueryDeps;
	readonly #waiting = new Map<string, Waiting>();
	#unanswered = 0;

	constructor(deps: RingQueryDeps) {
		this.#deps = deps;
	}

	/** Undefined when no answer comes in time. Never rejects. */
	ask(nodeId: string, query: Omit<HistoryQueryCommand, 'queryId'>): Promise<HistoryAnswer | undefined> {
		const { clock, rng, sessions, limits } = this.#deps;
		if (this.#waiting.size >= limits.ringQueriesMax) return Promise.resolve(undefined);
		const queryId = uuidv7(clock.now(), rng);
		return new Promise((resolve) => {
			const end = (answer: HistoryAnswer | undefined) => {
				this.#waiting.delete(queryId);
				timer.cancel();
				if (answer === undefined) this.#unanswered += 1;
				resolve(answer);
			};
			const timer = clock.setTimer(() => end(undefined), limits.ringTimeoutMs);
			this.#waiting.set(queryId, { nodeId, timer, resolve: end });
			if (!sessions.queryHistory(nodeId, { ...query, queryId })) end(undefined);
		});
	}

	/** As the gateway's LinkDeps wants it: quick, never throws. */
	readonly answer = (nodeId: string, answer: HistoryAnswer): void => {
		const waiting = this.#waiting.get(answer.queryId);
		if (waiting?.nodeId === nodeId) waiting.resolve(answer);
	};

	/** Since the start. */
	get unanswered(): number {
		return this.#unanswered;
	}
}
