import type { Clock } from '../../kit/clock.ts';
import type { Logger } from '../../kit/log.ts';
import type { InjectedFault } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import type { Journal } from '../journal/journal.ts';
import type { FindHome } from '../platform/accounts.ts';
import type { Rebooter } from '../platform/reboot.ts';
import type { DeviceGuard } from './device-guard.ts';
import type { RecentLog } from './holder-log.ts';
import type { Policy } from './policy.ts';

/** What the task side of the agent is built on; the agent's main makes one, tests and the simulation their own. */
export interface RunnerDeps {
	readonly clock: Clock;
	readonly log: Logger;
	readonly identity: AgentIdentity;
	readonly journal: Journal;
	readonly policy: Policy;
	readonly devices: DeviceGuard;
	readonly platform: RunnerPlatform;
	readonly limits: RunnerLimits;
}

export interface RunnerPlatform {
	readonly bootId: string;
	readonly agentVersion: string;
	/** Whom tasks run as where the process host can't switch users. */
	readonly ownUser: string;
	readonly findHome: FindHome;
	/** Whether this path is a program that somebody may start. */
	readonly isExecutable: (path: string) => boolean;
	/** The path without symbolic links; undefined when nothing is there or the agent may not look. */
	readonly realPath: (path: string) => string | undefined;
	readonly rebooter: Rebooter;
	/** Says these as health facts, marked as simulated; throws where nothing is measured on this host. */
	readonly injectFaults: (injection: string, faults: readonly InjectedFault[], endsAtMs: number) => void;
	/** Of the agent itself, for bundles. */
	readonly recentLog: RecentLog;
}

export interface RunnerLimits {
	/** Attempts accepted and not ended, running ones included. */
	readonly attemptsMax: number;
	/** Between SIGTERM and SIGKILL at a timeout. */
	readonly timeoutGraceMs: number;
	/** A task that runs longer than this has its output streamed while it runs. */
	readonly liveOutputAfterMs: number;
	/** Done attempts older than this keep only what a replay check needs. */
	readonly doneKeepMs: number;
	readonly prunePeriodMs: number;
	/** A machine that was told to restart and still runs after this has not. */
	readonly rebootTimeoutMs: number;
	/** When the host had no room: a task's end makes some, and this is for when none ends. */
	readonly noRoomRetryMs: number;
}

export const RUNNER_LIMITS_DEFAULT: RunnerLimits = Object.freeze({
	attemptsMax: 2048,
	timeoutGraceMs: 10_000,
	liveOutputAfterMs: 250,
	doneKeepMs: 3_600_000,
	prunePeriodMs: 60_000,
	rebootTimeoutMs: 600_000,
	noRoomRetryMs: 1000,
});
