import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { AgentSessions } from '../sessions/agent-sessions.ts';
import type { TelemetryLimits } from './limits.ts';

/**
 * Nodes that somebody looks at: their agents sample each second until the given time, and go back by themselves. In
 * memory: losing it costs resolution.
 */
export interface FastPlanDeps {
	readonly clock: Clock;
	readonly sessions: AgentSessions;
	readonly limits: Pick<TelemetryLimits, 'fastPeriodMs' | 'fastMsMax' | 'fastNodesMax'>;
	/** The plan of everybody. */
	readonly periodMs: number;
}

export class FastPlans {
	readonly #deps: FastPlanDeps;
	/** Node -> until when, on the wall clock. */
	readonly #until = new Map<string, number>();

	constructor(deps: FastPlanDeps) {
		this.#deps = deps;
	}

	/** Whether the agent may be asked now. Throws TELEMETRY_FAST_LIMIT, TELEMETRY_NODE_AWAY. */
	assertRoom(nodeId: string): void {
		const { clock, sessions, limits } = this.#deps;
		const nowMs = clock.now();
		for (const [id, untilMs] of this.#until) if (untilMs <= nowMs) this.#until.delete(id);
		if (!this.#until.has(nodeId) && this.#until.size >= limits.fastNodesMax) throw tooMany(limits.fastNodesMax);
		if (!sessions.isConnected(nodeId)) throw unreachable();
	}

	/** Until when the agent may sample fast. Throws TELEMETRY_FAST_LIMIT, TELEMETRY_NODE_AWAY. */
	untilFor(nodeId: string, durationMs: number): number {
		const { clock, limits } = this.#deps;
		this.assertRoom(nodeId);
		const nowMs = clock.now();
		return Math.max(this.#until.get(nodeId) ?? 0, nowMs + Math.min(durationMs, limits.fastMsMax));
	}

	/** Tells the agent, now and whenever it connects before then. */
	start(nodeId: string, fastUntilMs: number): void {
		const { sessions, limits, periodMs } = this.#deps;
		this.#until.set(nodeId, fastUntilMs);
		sessions.planTelemetry(nodeId, { periodMs, fastPeriodMs: limits.fastPeriodMs, fastUntilMs });
	}

	/** What a session that opens now is told. */
	planOf(nodeId: string): { readonly fastPeriodMs: number; readonly fastUntilMs: number } | undefined {
		const fastUntilMs = this.#until.get(nodeId) ?? 0;
		return fastUntilMs <= this.#deps.clock.now()
			? undefined
			: { fastPeriodMs: this.#deps.limits.fastPeriodMs, fastUntilMs };
	}
}

function tooMany(max: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TELEMETRY_FAST_LIMIT',
		message: `${max} nodes are sampled each second already, which is the most at once; the usual period goes on, try again later`,
	});
}

function unreachable(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'TELEMETRY_NODE_AWAY',
		message:
			'the agent of this node is not connected here, so it can not be asked to sample faster; see: gpuaas node why',
	});
}
