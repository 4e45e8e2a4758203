import { type Clock, sleep } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Backoff } from '../../kit/retry.ts';

/** A connection to a host of either kind. */
export interface KeptHost {
	/** Resolves once the connection is over. */
	readonly closed: Promise<{ readonly message: string }>;
	close(): Promise<void>;
}

/**
 * Keeps the agent on a living host: connects, hands it over, and reaches the next one when it is lost. Nothing of that may
 * take for ever: a host that is silent while it is handed over is left (and killed by `connect` when it stays silent), and
 * the end of the agent waits for none of it.
 */
export interface KeeperDeps<H extends KeptHost> {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	/** For the log: `process host`. */
	readonly name: string;
	/**
	 * Connects to the host of this node and starts one where none lives, which first settles what a dead one left. Bounded
	 * in time by itself.
	 */
	readonly connect: () => Promise<H>;
	/** Who works with it. */
	readonly user: { attachHost(host: H): Promise<void>; detachHost(host: H): void };
	/** Why another connection is needed although this one stands; of no more interest once `signal` aborts. */
	readonly watch?: (host: H, signal: AbortSignal) => Promise<string>;
	/** After it was left for another connection: whether the host itself should end is settled here. Never rejects; bounded. */
	readonly leave?: (host: H) => Promise<void>;
	/** Aborted when the agent ends: a host that ends then was told to, and no other takes its place. */
	readonly stopping?: AbortSignal;
}

/** Settling thousands of open tasks with their records takes seconds. */
const HAND_OVER_MS_MAX = 60_000;
/** One that lived so long did not fail at its start: the next one is reached without delay. */
const STABLE_MS = 60_000;

/** Until `signal` aborts; the host and what it runs go on. */
export async function keepHost<H extends KeptHost>(deps: KeeperDeps<H>, signal: AbortSignal): Promise<void> {
	const { clock, rng, log, name, stopping } = deps;
	const backoff = new Backoff({ baseMs: 20, maxMs: 5000, floorMs: 5 }, rng);
	const aborted = new Promise<undefined>((resolve) => {
		signal.addEventListener('abort', () => resolve(undefined), { once: true });
	});
	const isOver = () => signal.aborted || stopping?.aborted === true;
	while (!isOver()) {
		const connecting = deps.connect();
		try {
			const host = await Promise.race([connecting, aborted]);
			if (host === undefined) break;
			const beganAtMs = clock.monotonic();
			const why = await workWith(deps, host, aborted);
			if (clock.monotonic() - beganAtMs >= STABLE_MS) backoff.reset();
			if (why === undefined || isOver()) continue;
			log.warn(`the ${name} was left`, { message: why });
			await deps.leave?.(host);
		} catch (error) {
			if (!signal.aborted) log.error(`no ${name}: what it would run waits`, { error });
		} finally {
			// Also of one that comes too late.
			connecting.then((host) => host.close()).catch(() => {});
		}
		if (!isOver()) await sleep(clock, backoff.nextMs(), signal);
	}
}

/** Until the host is lost (why) or the agent ends (undefined). */
async function workWith<H extends KeptHost>(
	{ clock, user, watch }: KeeperDeps<H>,
	host: H,
	aborted: Promise<undefined>,
): Promise<string | undefined> {
	const over = new AbortController();
	const ends = [host.closed.then(({ message }) => message), aborted];
	if (watch !== undefined) ends.push(watch(host, over.signal));
	const isLost = Promise.race(ends);
	try {
		const handedOver = user.attachHost(host).then(() => 'HANDED_OVER' as const);
		// Whoever left waits for no answer to it.
		handedOver.catch(() => {});
		const enough = new AbortController();
		const late = sleep(clock, HAND_OVER_MS_MAX, enough.signal).then(() => 'it was silent while it was handed over');
		const left = Promise.race([isLost, late]).then((why) => ({ why }));
		const first = await Promise.race([handedOver, left]).finally(() => enough.abort());
		return first === 'HANDED_OVER' ? await isLost : first.why;
	} finally {
		over.abort();
		user.detachHost(host);
	}
}
