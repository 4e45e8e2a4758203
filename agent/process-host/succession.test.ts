import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { type Replaceable, Succession } from './succession.ts';

class IdleHost implements Replaceable {
	readonly version: number;
	readonly release: string;
	asked = 0;

	constructor(release: string, version = 2) {
		this.release = release;
		this.version = version;
	}

	async isIdle(): Promise<boolean> {
		return true;
	}

	async retire(): Promise<boolean> {
		this.asked += 1;
		return true;
	}
}

/** An agent of 0.2.0 that looks at an idle host for some minutes: why another is needed, or ''. */
async function watched(host: Replaceable, installed: string): Promise<string> {
	const clock = new VirtualClock();
	const enough = new AbortController();
	const watching = new Succession(clock, '0.2.0', () => installed).watch(host, enough.signal);
	for (let second = 0; second < 100; second += 1) {
		clock.advance(1000);
		await new Promise<void>((resolve) => systemClock.defer(resolve));
	}
	enough.abort();
	return await watching;
}

test.each([
	['0.1.0', 2, '0.2.0', 'one of 0.2.0 takes its place'],
	['0.2.0', 2, '0.2.0', ''],
	// An upgrade put another in the agent's place, and the agent runs on.
	['0.2.0', 2, '0.3.0', 'one of 0.3.0 takes its place'],
	['0.3.0', 2, '0.3.0', ''],
	// It says no release.
	['', 1, '0.2.0', 'one of 0.2.0 takes its place'],
	['', 1, '0.0.9', ''],
	// A package that is being installed.
	['0.2.0', 2, '0.0.0', ''],
])('a host of release %j (version %d) with %s on disk', async (release, version, installed, why) => {
	const host = new IdleHost(release, version);
	const said = await watched(host, installed);
	if (why === '') expect(said).toBe('');
	else expect(said).toContain(why);
	await new Succession(new VirtualClock(), '0.2.0', () => installed).leave(host);
	expect(host.asked).toBe(why === '' ? 0 : 1);
});
