import { type Clock, sleep } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Backoff } from '../../kit/retry.ts';
import type { ProcessHost } from './process-host.ts';
import type { TaskRunner } from './runner.ts';

/** Keeps the runner on a living process host: connects, hands it over, and reaches the next one when it is lost. */
export interface HostKeeperDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	/** Connects to the host of this node and starts one where none lives, which first settles what a dead one left. */
	readonly connect: () => Promise<ProcessHost>;
	readonly runner: Pick<TaskRunner, 'attachHost' | 'detachHost'>;
}

/** Until `signal` aborts; the host and its tasks go on. */
export async function keepHost(deps: HostKeeperDeps, signal: AbortSignal): Promise<void> {
	const { clock, rng, log, runner } = deps;
	const backoff = new Backoff({ baseMs: 20, maxMs: 5000, floorMs: 5 }, rng);
	const aborted = new Promise<'aborted'>((resolve) => {
		signal.addEventListener('abort', () => resolve('aborted'), { once: true });
	});
	while (!signal.aborted) {
		let host: ProcessHost | undefined;
		try {
			host = await deps.connect();
			await runner.attachHost(host);
			backoff.reset();
			const ended = await Promise.race([host.closed, aborted]);
			if (ended !== 'aborted') log.warn('the process host was lost', { message: ended.message });
		} catch (error) {
			if (!signal.aborted) log.error('no process host: tasks wait', { error });
		} finally {
			if (host !== undefined) {
				runner.detachHost(host);
				await host.close().catch(() => {});
			}
		}
		if (!signal.aborted) await sleep(clock, backoff.nextMs(), signal);
	}
}
