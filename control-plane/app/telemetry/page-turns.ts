import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { KeyedBuckets } from '../../../kit/limits.ts';
import type { TelemetryLimits } from './limits.ts';

/**
 * Turns at making the page of a project, which is cheap to ask for and dear to make: so many a second, charged by the nodes
 * on it, and so many at once, of one project and of all. A page counts from before anything is read for it until its answer
 * has left, for until then its text is held.
 */
type Limits = Pick<
	TelemetryLimits,
	| 'projectPagesPerSecondMax'
	| 'projectPagesBurstMax'
	| 'projectPageNodesPerTurn'
	| 'projectPagesAtOnceMax'
	| 'projectPagesAtOncePerProjectMax'
>;

export class PageTurns {
	readonly #limits: Limits;
	readonly #buckets: KeyedBuckets;
	/** By project: pages that are being made or sent. */
	readonly #open = new Map<string, number>();
	#openAll = 0;

	constructor(clock: Clock, limits: Limits) {
		this.#limits = limits;
		this.#buckets = new KeyedBuckets(clock, limits.projectPagesPerSecondMax, limits.projectPagesBurstMax);
	}

	/** Before anything is read. Throws RATE_LIMITED. */
	take(project: string): void {
		this.#charge(project, 1);
	}

	/** What so many nodes cost beyond the turn that was taken. Throws RATE_LIMITED. */
	takeForNodes(project: string, nodes: number): void {
		const { projectPageNodesPerTurn, projectPagesBurstMax } = this.#limits;
		const turns = Math.min(projectPagesBurstMax, Math.ceil(nodes / projectPageNodesPerTurn));
		this.#charge(project, turns - 1);
	}

	/** Until `signal` is aborted, which it is when the answer has left or its caller has gone. Throws RATE_LIMITED. */
	enter(project: string, signal: AbortSignal): void {
		signal.throwIfAborted();
		const { projectPagesAtOnceMax, projectPagesAtOncePerProjectMax } = this.#limits;
		const own = this.#open.get(project) ?? 0;
		if (own >= projectPagesAtOncePerProjectMax)
			throw limited(`${own} pages of this project are being made or sent, which is the most at once`, 2000);
		if (this.#openAll >= projectPagesAtOnceMax)
			throw limited(`${projectPagesAtOnceMax} pages are being made or sent, which is the most at once`, 2000);
		this.#open.set(project, own + 1);
		this.#openAll += 1;
		signal.addEventListener('abort', () => this.#leave(project), { once: true });
	}

	#leave(project: string): void {
		const own = this.#open.get(project) ?? 0;
		if (own > 1) this.#open.set(project, own - 1);
		else this.#open.delete(project);
		this.#openAll -= 1;
	}

	#charge(project: string, turns: number): void {
		const waitMs = turns <= 0 ? 0 : this.#buckets.take(project, turns);
		if (waitMs > 0) throw limited('the page of this project is asked for too often for the nodes it has', waitMs);
	}
}

function limited(what: string, waitMs: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `${what}; scrape it less often, or from fewer places`,
		metadata: { 'retry-after': String(Math.ceil(waitMs / 1000)) },
	});
}
