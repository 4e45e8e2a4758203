import type { Clock } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import type { Bus } from '../bus/bus.ts';
import type { Store } from '../store/port/store.ts';
import type { HeadKeeper } from './audit/head-keeper.ts';
import type { CertificateAuthority } from './certificates/certificate-authority.ts';
import type { AgentSessions } from './sessions/agent-sessions.ts';
import type { OutputStore } from './tasks/output-store.ts';

/** What use cases are built on; main.ts makes one, tests and the simulation make their own. */
export interface AppDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly store: Store;
	readonly bus: Bus;
	readonly sessions: AgentSessions;
	readonly authority: CertificateAuthority;
	readonly output: OutputStore;
	readonly heads: HeadKeeper;
	readonly limits: AppLimits;
	readonly replicaId: string;
	readonly version: string;
}

/** Every limit with its default in app/limits.ts. */
export interface AppLimits {
	/** Open tasks of one node. */
	readonly tasksOpenPerNodeMax: number;
	/** Offers on the way to one agent at once. */
	readonly offersInFlightPerNodeMax: number;
	readonly taskTimeoutDefaultMs: number;
	readonly queueTimeoutDefaultMs: number;
	readonly outputBytesDefaultMax: number;
	/** How long an offered task may stay unaccepted before its claim is looked at again. */
	readonly offerLeaseMs: number;
	readonly requestKeyTtlMs: number;
	readonly pageSizeDefault: number;
	readonly pageSizeMax: number;
	readonly leaseTtlFloorMs: number;
	readonly hellosPerSecondMax: number;
	readonly nodeCertificateTtlMs: number;
	readonly recoveriesMax: number;
	readonly envelopeTtlMs: number;
}

export const APP_LIMITS_DEFAULT: AppLimits = Object.freeze({
	tasksOpenPerNodeMax: 10_000,
	offersInFlightPerNodeMax: 256,
	taskTimeoutDefaultMs: 24 * 3_600_000,
	queueTimeoutDefaultMs: 3_600_000,
	outputBytesDefaultMax: 64 * 1024 * 1024,
	offerLeaseMs: 30_000,
	requestKeyTtlMs: 24 * 3_600_000,
	pageSizeDefault: 100,
	pageSizeMax: 1000,
	leaseTtlFloorMs: 10_000,
	hellosPerSecondMax: 300,
	nodeCertificateTtlMs: 24 * 3_600_000,
	recoveriesMax: 1,
	envelopeTtlMs: 3_600_000,
});
