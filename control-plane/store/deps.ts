import type { Clock } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';

/** What a store is opened with. */
export interface StoreDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
}
