import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { keepAlive, systemClock } from '../../kit/clock.ts';
import { serveParent } from './child.ts';

/** Starts `/bin/true` so often, one after the other, from a process that has loaded nothing; milliseconds of each. */
using _alive = keepAlive();
await serveParent<{ readonly count: number }>(null, async ({ count }) => {
	const ms: number[] = [];
	for (let done = 0; done < count; done += 1) {
		const startedMs = systemClock.monotonic();
		await once(spawn('/bin/true', { stdio: 'ignore' }), 'exit');
		ms.push(systemClock.monotonic() - startedMs);
	}
	return ms;
});
process.exit();
