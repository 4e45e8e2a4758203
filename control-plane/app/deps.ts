import type { Clock } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import type { Bus } from '../bus/bus.ts';
import type { Store } from '../store/port/store.ts';
import type { HeadKeeper } from './audit/head-keeper.ts';
import type { CertificateAuthority } from './certificates/certificate-authority.ts';
import { SELF_ROTATION_DEFAULT, type SelfRotation } from './certificates/rotation-plan.ts';
import { QUARANTINE_LIMITS_DEFAULT, type QuarantineLimits } from './health/quarantine.ts';
import type { AgentSessions } from './sessions/agent-sessions.ts';
import type { OutputStore } from './tasks/output-store.ts';
import type { TerminalHub } from './terminals/hub.ts';

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
	readonly terminals: TerminalHub;
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
	/** Terminals, commands, copies and forwards of one node: what its pty host takes. */
	readonly terminalsOpenPerNodeMax: number;
	/** The same of one person or service account, on all nodes of an organization. */
	readonly terminalsOpenPerPersonMax: number;
	/** How long a terminal may have nobody attached. */
	readonly terminalGraceMs: number;
	/** How long one may be without input; 0: for ever. */
	readonly terminalIdleMs: number;
	readonly terminalLengthMaxMs: number;
	/** Whether a terminal must say what it is for. */
	readonly terminalPurposeRequired: boolean;
	/** Whether a command must have a terminal, because only those are recorded. */
	readonly execRecordedOnly: boolean;
	/** Addresses and ranges that no forward leads to. */
	readonly forwardNever: readonly string[];
	/** When nodes are taken out of service by their verdict, and what brings them back. */
	readonly quarantine: QuarantineLimits;
	/** When the certificate authority is rotated without a person. */
	readonly selfRotation: SelfRotation;
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
	terminalsOpenPerNodeMax: 256,
	terminalsOpenPerPersonMax: 128,
	terminalGraceMs: 4 * 3_600_000,
	terminalIdleMs: 0,
	terminalLengthMaxMs: 7 * 24 * 3_600_000,
	terminalPurposeRequired: false,
	execRecordedOnly: false,
	forwardNever: [],
	quarantine: QUARANTINE_LIMITS_DEFAULT,
	selfRotation: SELF_ROTATION_DEFAULT,
});
