import { type Clock, every } from '../../../kit/clock.ts';
import type { Rng } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Bus } from '../../bus/bus.ts';
import type { Rollups } from '../../store/port/rollups.ts';
import type { Store } from '../../store/port/store.ts';
import type { AgentSessions } from '../sessions/agent-sessions.ts';
import { NodeDirectory } from './directory.ts';
import { FactBudget } from './fact-budget.ts';
import { FastPlans } from './fast-plans.ts';
import { HistoryQueries } from './history-queries.ts';
import { TelemetryIngest } from './ingest.ts';
import type { LatestTelemetry } from './latest.ts';
import { TELEMETRY_LIMITS_DEFAULT, type TelemetryLimits } from './limits.ts';
import { PageTurns } from './page-turns.ts';
import { RingQueries } from './ring-queries.ts';
import { RollupWriter } from './rollup-writer.ts';
import { XidCounts } from './xid-counts.ts';

/**
 * Telemetry of this replica, whole: what comes in (ingest), what is newest (latest), what nodes are (directory), what was
 * (rollups here, rings at the agents), and what agents are asked for. main.ts makes one; the gateway feeds it, the ops
 * pages, the API and the exporters read it.
 */
export interface TelemetryDeps {
	readonly store: Store;
	readonly bus: Bus;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly sessions: AgentSessions;
	/** What agents are told when they connect. */
	readonly periodMs: number;
	readonly telemetryLimits?: Partial<TelemetryLimits>;
	/** Absent: no history beyond the agents' rings. */
	readonly history?: { readonly rollups: Rollups; readonly retentionMs: number; readonly bytesMax: number };
}

const SWEEP_MS = 5000;

export class Telemetry implements AsyncDisposable {
	readonly limits: TelemetryLimits;
	readonly directory: NodeDirectory;
	readonly ingest: TelemetryIngest;
	readonly rings: RingQueries;
	readonly historyQueries: HistoryQueries;
	readonly fastPlans: FastPlans;
	readonly rollups: Rollups | undefined;
	readonly writer: RollupWriter | undefined;
	readonly xids = new XidCounts();
	/** How many facts of each node become rows. */
	readonly facts: FactBudget;
	/** How often the page of a project may be made, and how many at once. */
	readonly projectPages: PageTurns;
	readonly #stack = new AsyncDisposableStack();
	readonly #deps: TelemetryDeps;

	constructor(deps: TelemetryDeps) {
		this.#deps = deps;
		const { clock, rng, log, sessions, periodMs, history } = deps;
		const limits = Object.freeze({ ...TELEMETRY_LIMITS_DEFAULT, ...deps.telemetryLimits });
		this.limits = limits;
		this.facts = new FactBudget(clock);
		this.directory = this.#stack.use(new NodeDirectory(deps));
		this.directory.onChange((nodeId) => {
			if (this.directory.get(nodeId) !== undefined) return;
			this.xids.forget(nodeId);
			this.facts.forget(nodeId);
		});
		this.ingest = new TelemetryIngest({ clock, log, directory: this.directory, limits });
		this.rings = new RingQueries({ clock, rng, sessions, limits });
		this.historyQueries = new HistoryQueries(limits.historyQueriesMax);
		this.fastPlans = new FastPlans({ clock, sessions, limits, periodMs });
		this.projectPages = new PageTurns(clock, limits);
		this.rollups = history?.rollups;
		if (history === undefined) return;
		this.writer = this.#stack.use(new RollupWriter({ clock, log, ...history }));
		this.ingest.listen(this.writer);
	}

	/** Reads what nodes there are, and follows them from now on. */
	async start(): Promise<void> {
		await this.directory.start();
		const { clock, log } = this.#deps;
		const onError = (error: unknown) => log.error('the sweep of silent nodes failed', { error });
		const sweep = every(clock, SWEEP_MS, () => this.ingest.sweep(), onError);
		this.#stack.defer(() => sweep.cancel());
	}

	get latest(): LatestTelemetry {
		return this.ingest.latest;
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.#stack.disposeAsync();
	}
}
