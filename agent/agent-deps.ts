import type { Clock } from '../kit/clock.ts';
import type { Rng } from '../kit/ids.ts';
import type { Logger } from '../kit/log.ts';
import type { AgentConfig } from './config.ts';
import type { AgentIdentity } from './identity/identity.ts';
import type { RecentLog } from './tasks/holder-log.ts';

export interface AgentDeps {
	readonly config: AgentConfig;
	readonly version: string;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	/** The newest lines of that log, for diagnosis on request. */
	readonly recentLog: RecentLog;
	/** Once, when the control plane has welcomed this agent. */
	readonly onReady: (identity: AgentIdentity) => void;
}
