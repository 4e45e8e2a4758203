import type { Clock } from '../../../kit/clock.ts';
import type { Logger } from '../../../kit/log.ts';
import type { ChannelEnd } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';

/** How a channel ended. */
export type End = Pick<ChannelEnd, 'reason' | 'message'> & Partial<Pick<ChannelEnd, 'exitCode' | 'signal'>>;

/** What a relay needs of the product around it. */
export interface RelayHooks {
	readonly clock: Clock;
	readonly log: Pick<Logger, 'warn'>;
	/** The first viewer came, or the last one left. */
	readonly onWatched: (isWatched: boolean) => void;
	/**
	 * The program has ended on the node. Resolves when that is kept, and the node may forget; called again, at a later
	 * tick, when it rejected.
	 */
	readonly onEnded: (end: End) => Promise<void>;
}
