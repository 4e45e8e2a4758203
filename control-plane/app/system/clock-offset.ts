import type { AppDeps } from '../deps.ts';

/** Past this, leases, certificates and the end of a CA judged by the two clocks would disagree. */
export const CLOCK_OFFSET_MAX_MS = 5000;

/** How far this host's clock and the store's are apart. */
export async function clockOffsetMs({ store, clock }: Pick<AppDeps, 'store' | 'clock'>): Promise<number> {
	return Math.abs((await store.now()) - clock.now());
}
