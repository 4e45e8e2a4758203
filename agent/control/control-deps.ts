import type { Clock } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import type { ProbeQuiesce, TelemetryPlan } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { HistoryQuery } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { Journal } from '../journal/journal.ts';
import type { CommandSink } from './command-sink.ts';
import type { LinkTransport } from './link-transport.ts';

/** What the link is built on: agent/run.ts makes one, tests and the simulation their own. */
export interface ControlDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly transport: LinkTransport;
	readonly identity: AgentIdentity;
	readonly journal: Journal;
	/** Given offers and cancels. */
	readonly commands: CommandSink;
	readonly host: HostFacts;
	readonly limits: ControlLimits;
	readonly onRenewNow: (reason: string) => void;
	readonly onTelemetryPlan: (plan: TelemetryPlan) => void;
	readonly onHistoryQuery?: (query: HistoryQuery) => void;
	readonly onProbeQuiesce?: (quiesce: ProbeQuiesce) => void;
	readonly telemetryDropped: () => number;
	/** Before each attempt to connect: recovers an expired certificate. What it throws counts as a failed attempt. */
	readonly prepare: (signal: AbortSignal) => Promise<void>;
}

export interface HostFacts {
	readonly bootId: string;
	readonly agentVersion: string;
	readonly capabilities: readonly string[];
	readonly hostname: string;
	/** Random at each start of the agent. */
	readonly instanceId: string;
}

export interface ControlLimits {
	readonly backoffBaseMs: number;
	/** Until a server says otherwise. */
	readonly backoffMaxMs: number;
	/** A link that lasted this long makes the next failure the first again. */
	readonly stableMs: number;
	/** From dialling to Welcome. */
	readonly welcomeTimeoutMs: number;
	/** Whatever a server says: a shorter lease would make its own heartbeats late. */
	readonly leaseTtlFloorMs: number;
	/** Between attempts of a node that was refused for good (revoked, locked, reimaged): an operator may let it in again. */
	readonly refusedRetryMs: number;
	/** Over how long the fleet spreads its second connections after a new bundle. */
	readonly bundleMoveSpreadMs: number;
	/** For what was sent before the end of a link that leaves on purpose. */
	readonly goodbyeMs: number;
}

export const CONTROL_LIMITS_DEFAULT: ControlLimits = Object.freeze({
	backoffBaseMs: 1000,
	backoffMaxMs: 20_000,
	stableMs: 120_000,
	welcomeTimeoutMs: 15_000,
	leaseTtlFloorMs: 1000,
	refusedRetryMs: 60_000,
	bundleMoveSpreadMs: 60_000,
	goodbyeMs: 1000,
});
